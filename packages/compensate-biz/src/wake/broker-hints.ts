import type { Publisher, Subscriber, Subscription } from '@holdfast/broker';
import { defaultLogger, type Logger, uuidv7 } from '@holdfast/core';
import { type Hint, type Hints, hintNote, parseHint } from './hints.ts';

/** Where hints are sent: topic, group, and for how many rows at a time. */
export interface BrokerHintsOptions {
  /** Must exist where the broker wants topics created. Default `compensate-biz-hints`. */
  readonly topic?: string;
  /** Workers of one group share the hints, each going to one of them. Default `compensate-biz`. */
  readonly group?: string;
  readonly logger?: Logger;
}

/** {@link Hints} over a broker, until closed. */
export interface BrokerHints extends Hints {
  /** Resolves when hints arrive; a broker that is not there is no reason to wait. */
  readonly ready: Promise<void>;
  /** Closes what was opened at the broker. */
  close(): Promise<void>;
}

/**
 * Hints over Kafka, RabbitMQ, Redis Streams, or any other broker: the ids and nothing else, sent after the root commit and
 * always acknowledged, whoever has the row by then. A broker that is down costs latency; nobody waits for it.
 */
export function brokerHints(broker: Publisher & Subscriber, options: BrokerHintsOptions = {}): BrokerHints {
  const topic = options.topic ?? 'compensate-biz-hints';
  const logger = options.logger ?? defaultLogger;
  const listeners = new Set<(hints: readonly Hint[]) => void>();
  let subscribing: Promise<Subscription | undefined> | undefined;
  const subscribe = (): Promise<Subscription | undefined> => {
    subscribing ??= broker
      .subscribe([topic], { group: options.group ?? 'compensate-biz' }, async ({ message }) => {
        const notes = new TextDecoder().decode(message.body).split('\n');
        const hints = notes.map(parseHint).filter((hint) => hint !== undefined);
        for (const listener of listeners) listener(hints);
        return { outcome: 'ack' };
      })
      .catch((err) => {
        subscribing = undefined;
        logger.warn({ err, topic }, 'hints can not be received; workers find their rows by looking');
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
