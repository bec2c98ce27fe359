import { laneOf } from '@holdfast/core';
import type { ConfirmChannel } from 'amqplib';
import { toBareHeaders } from '../adapter/cloud-events.ts';
import { oversized } from '../adapter/oversized.ts';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import type { Message } from '../port/message.ts';
import { publishTimedOut, refused } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import type { Link } from './link.ts';
import { assertTopic, routingKey } from './topology.ts';

export interface RabbitmqPublisherOptions {
  readonly link: Link;
  readonly source: string;
  readonly timeoutMs: number;
  readonly lanes: number;
  readonly assert: boolean;
  readonly maxMessageBytes: number;
}

/** Publishes persistent, mandatory messages with confirms: a message is acked when the server confirmed and did not return it. */
export class RabbitmqPublisher implements Publisher {
  readonly prefixPerKey = false;
  readonly #options: RabbitmqPublisherOptions;
  /** Topics whose exchange exists. */
  readonly #checked = new Set<string>();
  #channel: Promise<ConfirmChannel> | undefined;
  #sequence = 0;
  /** Per channel, ids of messages that the server returned as unroutable. The return arrives before the confirm. */
  readonly #returned = new WeakMap<ConfirmChannel, Set<string>>();

  constructor(options: RabbitmqPublisherOptions) {
    this.#options = options;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    signal?.throwIfAborted();
    const { link, timeoutMs, maxMessageBytes } = this.#options;
    if (link.blocked !== undefined) {
      const result = refused('backpressure', new Error(`RabbitMQ has blocked publishers: ${link.blocked}.`));
      return batch.map(() => result);
    }
    const deadline = new PublishDeadline(timeoutMs, signal);
    try {
      let channel: ConfirmChannel | undefined;
      try {
        channel = await deadline.race(this.#open());
      } catch (error) {
        signal?.throwIfAborted();
        return batch.map(() => this.#refusal(error));
      }
      if (!channel) return batch.map(() => publishTimedOut(timeoutMs));
      const refusals = await deadline.race(this.#refusedTopics(channel, batch));
      if (!refusals) {
        const unconfirmed = this.#unconfirmed(channel);
        return batch.map(() => unconfirmed);
      }
      const results: (PublishResult | undefined)[] = batch.map(
        (message) => oversized(message, maxMessageBytes) ?? refusals.get(message.topic),
      );
      const settled = await deadline.race(this.#send(channel, batch, results).then(() => true));
      if (settled) return results as PublishResult[];
      const unconfirmed = this.#unconfirmed(channel);
      return results.map((result) => result ?? unconfirmed);
    } finally {
      deadline.end();
    }
  }

  async close(): Promise<void> {
    const channel = await this.#channel?.catch(() => undefined);
    this.#channel = undefined;
    await channel?.waitForConfirms().catch(() => undefined);
    await channel?.close().catch(() => undefined);
  }

  /** The results of messages to topics whose exchange can't be published to. */
  async #refusedTopics(channel: ConfirmChannel, batch: readonly Message[]): Promise<Map<string, PublishResult>> {
    const refusals = new Map<string, PublishResult>();
    for (const topic of new Set(batch.map((message) => message.topic))) {
      try {
        await this.#checkTopic(channel, topic);
      } catch (error) {
        refusals.set(
          topic,
          (error as { code?: number }).code === 404
            ? refused('poison', new Error(`There is no exchange ${topic}.`, { cause: error }))
            : this.#refusal(error),
        );
      }
    }
    return refusals;
  }

  /** Publishes the messages whose result is `undefined`; resolves when `results` is complete. */
  #send(channel: ConfirmChannel, batch: readonly Message[], results: (PublishResult | undefined)[]): Promise<void> {
    const { source, lanes } = this.#options;
    return new Promise((resolve) => {
      let left = 0;
      for (const result of results) if (!result) left += 1;
      const settle = (i: number, result: PublishResult): void => {
        if (results[i]) return;
        results[i] = result;
        left -= 1;
        if (left > 0) return;
        channel.off('close', closed);
        resolve();
      };
      const lost = refused('retriable', new Error('The channel was closed before the broker confirmed.'));
      const closed = (): void => {
        for (let i = 0; i < batch.length; i++) settle(i, lost);
      };
      if (left === 0) return resolve();
      channel.once('close', closed);
      for (const [i, message] of batch.entries()) {
        if (results[i]) continue;
        const number = ++this.#sequence;
        const bare = toBareHeaders(message, source);
        const confirmed = (error: unknown): void => {
          if (this.#returned.get(channel)?.delete(message.id))
            settle(i, refused('poison', new Error(`The message is unroutable: no queue is bound to ${message.topic} for it.`)));
          else if (error)
            settle(i, refused('retriable', error instanceof Error ? error : new Error('The broker refused the message (nack).')));
          else settle(i, { outcome: 'acked', at: { exchange: message.topic, deliveryTag: number } });
        };
        try {
          channel.publish(
            message.topic,
            routingKey(message.key === undefined ? undefined : laneOf(message.key, lanes)),
            Buffer.from(message.body.buffer, message.body.byteOffset, message.body.byteLength),
            {
              persistent: true,
              mandatory: true,
              messageId: message.id,
              contentType: message.contentType,
              headers: message.key === undefined ? bare : { ...bare, ce_partitionkey: message.key },
            },
            confirmed,
          );
        } catch (error) {
          settle(i, this.#refusal(error));
        }
      }
    });
  }

  async #checkTopic(channel: ConfirmChannel, topic: string): Promise<void> {
    if (this.#checked.has(topic)) return;
    if (this.#options.assert) await assertTopic(channel, topic);
    else {
      // A failed check closes its channel, so it must not run on the one that publishes.
      const probe = await (await this.#options.link.connection()).createChannel();
      probe.on('error', () => undefined);
      await probe.checkExchange(topic);
      await probe.close();
    }
    this.#checked.add(topic);
  }

  #unconfirmed(channel: ConfirmChannel): PublishResult {
    if (this.#options.link.blocked !== undefined)
      return refused('backpressure', new Error(`RabbitMQ has blocked publishers: ${this.#options.link.blocked}.`));
    // Late confirms of this channel must not be taken for those of the next publish.
    this.#channel = undefined;
    this.#checked.clear();
    void channel.close().catch(() => undefined);
    return publishTimedOut(this.#options.timeoutMs);
  }

  #refusal(error: unknown): PublishResult {
    const { code, message } = (error ?? {}) as { code?: unknown; message?: string };
    return refused(code === 403 || /ACCESS[-_]REFUSED/.test(message ?? '') ? 'fatal' : 'retriable', error);
  }

  #open(): Promise<ConfirmChannel> {
    if (this.#channel) return this.#channel;
    const opening: Promise<ConfirmChannel> = (async () => {
      const channel = await (await this.#options.link.connection()).createConfirmChannel();
      const returned = new Set<string>();
      this.#returned.set(channel, returned);
      channel.setMaxListeners(0);
      channel.on('error', () => undefined);
      channel.on('close', () => {
        // A channel that was given up after a time-out may close when another one is open.
        if (this.#channel !== opening) return;
        this.#channel = undefined;
        this.#checked.clear();
      });
      channel.on('return', ({ properties }) => {
        if (typeof properties.messageId === 'string') returned.add(properties.messageId);
      });
      return channel;
    })();
    this.#channel = opening;
    opening.catch(() => {
      if (this.#channel === opening) this.#channel = undefined;
    });
    return opening;
  }
}
