import type { Publisher, Subscriber, Subscription } from '@holdfast/broker';
import { callListener, guardLogger, type Logger, uuidv7 } from '@holdfast/core';
import { type Hint, type Hints, hintNote, parseHint } from './hints.ts';

/** Options of {@link brokerHints}. */
export interface BrokerHintsOptions {
  /** The topic that carries the hints. It must exist if the broker does not create topics. Default `compensate-biz-hints`. */
  readonly topic?: string;
  /** The consumer group. Each hint goes to one worker of a group. Default `compensate-biz`. */
  readonly group?: string;
  /** Receives the log lines. Default: warnings and errors go to standard error. */
  readonly logger?: Logger;
}

/** {@link Hints} over a broker, until closed. */
export interface BrokerHints extends Hints {
  /** Resolves when the subscription receives hints, or has failed: a worker may start without a broker. */
  readonly ready: Promise<void>;
  /** Closes the subscription. The broker stays open. */
  close(): Promise<void>;
}

/**
 * Hints over Kafka, RabbitMQ, Redis Streams, or any other broker. A message carries ids only. It is sent after the root commit, and is
 * always acknowledged, even if another worker holds the row by then. A broker that is down costs latency; no submit and no worker waits
 * for it.
 */
export function brokerHints(broker: Publisher & Subscriber, options: BrokerHintsOptions = {}): BrokerHints {
  const topic = options.topic ?? 'compensate-biz-hints';
  const logger = guardLogger(options.logger);
  const listeners = new Set<(hints: readonly Hint[]) => void>();
  let subscribing: Promise<Subscription | undefined> | undefined;
  const subscribe = (): Promise<Subscription | undefined> => {
    subscribing ??= broker
      .subscribe([topic], { group: options.group ?? 'compensate-biz' }, async ({ message }) => {
        const notes = new TextDecoder().decode(message.body).split('\n');
        const hints = notes.map(parseHint).filter((hint) => hint !== undefined);
        for (const listener of listeners)
          callListener(
            () => listener(hints),
            (err) => logger.warn({ err, topic }, 'a listener to hints failed'),
          );
        return { outcome: 'ack' };
      })
      .catch((err) => {
        subscribing = undefined;
        logger.warn({ err, topic }, 'hints cannot be received; workers find rows by polling');
        return undefined;
      });
    return subscribing;
  };
  return {
    get ready() {
      return subscribe().then(() => undefined);
    },
    send(hints) {
      const body = new TextEncoder().encode(hints.map(hintNote).join('\n'));
      broker
        .publish([{ id: uuidv7(), topic, headers: {}, body, contentType: 'text/plain' }])
        .then(([result]) => {
          if (result && result.outcome !== 'acked')
            logger.debug({ topic, outcome: result.outcome, err: result.error }, 'a hint was not sent');
        })
        .catch((err) => logger.debug({ err, topic }, 'a hint was not sent'));
    },
    listen(listener) {
      listeners.add(listener);
      void subscribe();
      return () => listeners.delete(listener);
    },
    async close() {
      await (await subscribing)?.close();
    },
  };
}
