import { laneOf, settledWithin } from '@holdfast/core';
import type { ConfirmChannel } from 'amqplib';
import { toBareHeaders } from '../adapter/cloud-events.ts';
import { oversized } from '../adapter/oversized.ts';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import type { Message } from '../port/message.ts';
import { publishTimedOut, refused } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import type { Link } from './link.ts';
import { messageRefusal, rabbitmqRefusal, replyCode } from './rabbitmq-refusal.ts';
import { assertTopic, routingKey } from './topology.ts';

export interface RabbitmqPublisherOptions {
  readonly link: Link;
  readonly source: string;
  readonly timeoutMs: number;
  readonly lanes: number;
  readonly assert: boolean;
  readonly maxMessageBytes: number;
}

/** A channel for publishing, and what the server said about it. */
interface Publishing {
  readonly channel: ConfirmChannel;
  /** Ids of messages that the server returned as unroutable. The return arrives before the confirm. */
  readonly returned: Set<string>;
  /** The error with which the server closed the channel. */
  failure?: Error;
}

/** The results of a batch, as far as they are known. */
type Results = (PublishResult | undefined)[];

/** Publishes persistent, mandatory messages with confirms: a message is acked when the server confirmed and did not return it. */
export class RabbitmqPublisher implements Publisher {
  readonly prefixPerKey = false;
  readonly #options: RabbitmqPublisherOptions;
  /** Topics whose exchange exists. */
  readonly #checked = new Set<string>();
  #publishing: Promise<Publishing> | undefined;
  #sequence = 0;

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
    const results: Results = batch.map((message) => oversized(message, maxMessageBytes));
    let used: Promise<Publishing> | undefined;
    try {
      const sent = await deadline.race(
        (async () => {
          used = this.#open();
          await this.#publish(await used, batch, results);
          return true;
        })(),
      );
      if (sent) return results as PublishResult[];
      const unconfirmed = this.#unconfirmed(used);
      return results.map((result) => result ?? unconfirmed);
    } catch (error) {
      signal?.throwIfAborted();
      const refusal = rabbitmqRefusal(error);
      return results.map((result) => result ?? refusal);
    } finally {
      deadline.end();
    }
  }

  async close(): Promise<void> {
    const publishing = await this.#publishing?.catch(() => undefined);
    this.#publishing = undefined;
    if (!publishing) return;
    // A server with a memory alarm reads nothing from this connection, and would let both wait.
    await settledWithin(this.#options.timeoutMs, publishing.channel.waitForConfirms());
    await settledWithin(this.#options.timeoutMs, publishing.channel.close());
  }

  /** Publishes the messages without a result; resolves when `results` is complete. */
  async #publish(publishing: Publishing, batch: readonly Message[], results: Results): Promise<void> {
    const refusals = await this.#refusedTopics(batch);
    for (const [i, { topic }] of batch.entries()) results[i] ??= refusals.get(topic);
    const left = places(results);
    await this.#send(publishing, batch, left, results);
    await this.#retryApart(publishing, batch, left, results);
  }

  /**
   * The server closes the channel because of one message, and does not say which: it is larger than the server's limit, or its exchange is
   * gone. The messages without a result are published on channels of their own, halved until the culprit is alone.
   */
  async #retryApart(publishing: Publishing, batch: readonly Message[], part: readonly number[], results: Results): Promise<void> {
    const { failure } = publishing;
    const left = part.filter((i) => !results[i]);
    if (left.length === 0) return;
    if (!failure || ![403, 404, 406].includes(replyCode(failure) ?? 0)) {
      const lost = refused('retriable', failure ?? new Error('The channel was closed before the broker confirmed.'));
      for (const i of left) results[i] = lost;
      return;
    }
    const middle = Math.ceil(left.length / 2);
    for (const half of [left.slice(0, middle), left.slice(middle)]) {
      if (half.length === 0) continue;
      const own = await this.#openChannel();
      await this.#send(own, batch, half, results);
      if (half.length > 1) await this.#retryApart(own, batch, half, results);
      else if (half[0] !== undefined) results[half[0]] ??= messageRefusal(own.failure ?? new Error('The channel was closed.'));
      await settledWithin(this.#options.timeoutMs, own.channel.close());
    }
  }

  /** The results of messages to topics whose exchange can't be published to. */
  async #refusedTopics(batch: readonly Message[]): Promise<Map<string, PublishResult>> {
    const refusals = new Map<string, PublishResult>();
    for (const topic of new Set(batch.map((message) => message.topic))) {
      if (this.#checked.has(topic)) continue;
      try {
        await this.#checkTopic(topic);
        this.#checked.add(topic);
      } catch (error) {
        refusals.set(
          topic,
          replyCode(error) === 404
            ? refused('poison', new Error(`There is no exchange ${topic}.`, { cause: error }))
            : messageRefusal(error),
        );
      }
    }
    return refusals;
  }

  /** A refusal closes the channel that it comes on, so the channel that publishes is not used for it. */
  async #checkTopic(topic: string): Promise<void> {
    const probe = await (await this.#options.link.connection()).createChannel();
    probe.on('error', () => {
      // The call that fails reports it.
    });
    try {
      if (this.#options.assert) await assertTopic(probe, topic);
      else await probe.checkExchange(topic);
    } finally {
      await closeQuietly(probe);
    }
  }

  /** Publishes the messages of these places. Resolves when each has a result, or when the channel has closed. */
  #send({ channel, returned }: Publishing, batch: readonly Message[], part: readonly number[], results: Results): Promise<void> {
    const { source, lanes } = this.#options;
    return new Promise((resolve) => {
      let left = part.length;
      const done = (): void => {
        channel.off('close', done);
        resolve();
      };
      const settle = (i: number, result: PublishResult): void => {
        if (results[i]) return;
        results[i] = result;
        left -= 1;
        if (left === 0) done();
      };
      if (left === 0) return resolve();
      channel.once('close', done);
      for (const i of part) {
        const message = batch[i] as Message;
        const number = ++this.#sequence;
        const bare = toBareHeaders(message, source);
        const confirmed = (error: unknown): void => {
          if (returned.delete(message.id))
            settle(i, refused('poison', new Error(`The message is unroutable: no queue is bound to ${message.topic} for it.`)));
          else if (!error) settle(i, { outcome: 'acked', at: { exchange: message.topic, deliveryTag: number } });
          // When the channel closes, amqplib calls this with an error, too: then it is not this message's.
          else if ((error as Error).message !== 'channel closed')
            settle(i, refused('retriable', error instanceof Error ? error : new Error('The broker refused the message (nack).')));
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
          settle(i, messageRefusal(error));
        }
      }
    });
  }

  #unconfirmed(used: Promise<Publishing> | undefined): PublishResult {
    const { link, timeoutMs } = this.#options;
    if (link.blocked !== undefined) return refused('backpressure', new Error(`RabbitMQ has blocked publishers: ${link.blocked}.`));
    // Late confirms of this channel must not be taken for those of the next publish.
    if (used !== undefined && this.#publishing === used) {
      this.#publishing = undefined;
      this.#checked.clear();
    }
    void used?.then(({ channel }) => closeQuietly(channel)).catch(() => undefined);
    return publishTimedOut(timeoutMs);
  }

  #open(): Promise<Publishing> {
    if (this.#publishing) return this.#publishing;
    const opening = this.#openChannel();
    this.#publishing = opening;
    const forget = (): void => {
      // A channel that was given up after a time-out may close when another one is open.
      if (this.#publishing !== opening) return;
      this.#publishing = undefined;
      this.#checked.clear();
    };
    opening.then(({ channel }) => channel.on('close', forget), forget);
    return opening;
  }

  async #openChannel(): Promise<Publishing> {
    const channel = await (await this.#options.link.connection()).createConfirmChannel();
    const publishing: Publishing = { channel, returned: new Set() };
    channel.setMaxListeners(0);
    channel.on('error', (error: Error) => {
      publishing.failure = error;
    });
    channel.on('return', ({ properties }) => {
      if (typeof properties.messageId === 'string') publishing.returned.add(properties.messageId);
    });
    return publishing;
  }
}

/** The places without a result. */
function places(results: Results): number[] {
  return [...results.keys()].filter((i) => !results[i]);
}

async function closeQuietly(channel: { close(): Promise<void> }): Promise<void> {
  try {
    await channel.close();
  } catch {
    // The server closed it before.
  }
}
