import { laneOf, wait } from '@holdfast/core';
import type { ConfirmChannel } from 'amqplib';
import { toHeaders } from '../cloud-events.ts';
import type { Message } from '../message.ts';
import { publishTimedOut, refused } from '../publish-results.ts';
import type { Publisher, PublishResult } from '../publisher.ts';
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

/** Persistent, mandatory, confirmed: a message is acked when the broker confirmed it and did not return it. */
export class RabbitmqPublisher implements Publisher {
  readonly prefixPerKey = false;
  readonly #options: RabbitmqPublisherOptions;
  readonly #known = new Set<string>();
  #channel: Promise<ConfirmChannel> | undefined;
  #sequence = 0;
  /** Sequence numbers of messages that came back as unroutable; the return precedes the confirm. */
  readonly #returned = new Set<number>();

  constructor(options: RabbitmqPublisherOptions) {
    this.#options = options;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    signal?.throwIfAborted();
    const { link, timeoutMs } = this.#options;
    if (link.blocked !== undefined) {
      const result = refused('backpressure', new Error(`RabbitMQ has blocked publishers: ${link.blocked}.`));
      return batch.map(() => result);
    }
    const done = new AbortController();
    const late = wait(timeoutMs, AbortSignal.any([done.signal, ...(signal ? [signal] : [])])).then(() => undefined);
    late.catch(() => undefined);
    try {
      let channel: ConfirmChannel | undefined;
      try {
        channel = await Promise.race([this.#open(), late]);
      } catch (error) {
        signal?.throwIfAborted();
        return batch.map(() => this.#refusal(error));
      }
      if (!channel) return batch.map(() => publishTimedOut(timeoutMs));
      const open = channel;
      return await Promise.all(
        batch.map(async (message) => (await Promise.race([this.#one(open, message), late])) ?? this.#unconfirmed(open)),
      );
    } finally {
      done.abort(new Error('published'));
    }
  }

  async close(): Promise<void> {
    const channel = await this.#channel?.catch(() => undefined);
    this.#channel = undefined;
    await channel?.waitForConfirms().catch(() => undefined);
    await channel?.close().catch(() => undefined);
  }

  async #one(channel: ConfirmChannel, message: Message): Promise<PublishResult> {
    const { source, lanes, maxMessageBytes } = this.#options;
    if (message.body.byteLength > maxMessageBytes)
      return refused(
        'poison',
        new Error(`The body has ${message.body.byteLength} bytes; the limit is ${maxMessageBytes} (maxMessageBytes).`),
      );
    try {
      await this.#knowTopic(channel, message.topic);
    } catch (error) {
      return (error as { code?: number }).code === 404
        ? refused('poison', new Error(`There is no exchange ${message.topic}.`, { cause: error }))
        : this.#refusal(error);
    }
    const number = ++this.#sequence;
    return new Promise((resolve) => {
      const closed = (): void => resolve(refused('retriable', new Error('The channel was closed before the broker confirmed.')));
      channel.once('close', closed);
      const confirmed = (error: unknown): void => {
        channel.off('close', closed);
        if (this.#returned.delete(number))
          resolve(refused('poison', new Error(`No queue is bound to ${message.topic} for it: unroutable.`)));
        else if (error) resolve(refused('retriable', error instanceof Error ? error : new Error('The broker refused the message (nack).')));
        else resolve({ outcome: 'acked', at: { exchange: message.topic, deliveryTag: number } });
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
            headers: { ...toHeaders(message, source), 'x-holdfast-n': number },
          },
          confirmed,
        );
      } catch (error) {
        channel.off('close', closed);
        resolve(this.#refusal(error));
      }
    });
  }

  async #knowTopic(channel: ConfirmChannel, topic: string): Promise<void> {
    if (this.#known.has(topic)) return;
    if (this.#options.assert) await assertTopic(channel, topic);
    else {
      // A failed check closes its channel, which must not be the one that others publish on.
      const probe = await (await this.#options.link.connection()).createChannel();
      probe.on('error', () => undefined);
      await probe.checkExchange(topic);
      await probe.close();
    }
    this.#known.add(topic);
  }

  #unconfirmed(channel: ConfirmChannel): PublishResult {
    if (this.#options.link.blocked !== undefined)
      return refused('backpressure', new Error(`RabbitMQ has blocked publishers: ${this.#options.link.blocked}.`));
    // Confirms that come later must not be taken for those of the next try.
    this.#channel = undefined;
    void channel.close().catch(() => undefined);
    return publishTimedOut(this.#options.timeoutMs);
  }

  #refusal(error: unknown): PublishResult {
    const { code, message } = (error ?? {}) as { code?: unknown; message?: string };
    return refused(code === 403 || /ACCESS[-_]REFUSED/.test(message ?? '') ? 'fatal' : 'retriable', error);
  }

  #open(): Promise<ConfirmChannel> {
    this.#channel ??= (async () => {
      try {
        const channel = await (await this.#options.link.connection()).createConfirmChannel();
        channel.setMaxListeners(0);
        channel.on('error', () => undefined);
        channel.on('close', () => {
          this.#channel = undefined;
          this.#known.clear();
        });
        channel.on('return', ({ properties }) => {
          const number = Number(properties.headers?.['x-holdfast-n']);
          if (Number.isInteger(number)) this.#returned.add(number);
        });
        return channel;
      } catch (error) {
        this.#channel = undefined;
        throw error;
      }
    })();
    return this.#channel;
  }
}
