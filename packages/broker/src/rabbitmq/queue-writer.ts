import { settledWithin } from '@holdfast/core';
import type { ChannelModel, ConfirmChannel, Options } from 'amqplib';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import type { Link } from './link.ts';
import { copyHeader } from './received-headers.ts';

export interface QueueWriterOptions {
  /** The connection for publishing. */
  readonly link: Link;
  /** The time limit of one write, in ms. */
  readonly timeoutMs: number;
}

/** A channel, and the copies on it that the server returned because their queue does not exist. */
interface Writing {
  readonly connection: ChannelModel;
  readonly channel: ConfirmChannel;
  readonly returned: Set<string>;
}

/** Declares a queue, and resolves with its name. */
export type Declare = (channel: ConfirmChannel, connection: ChannelModel) => Promise<string>;

/** The server has no queue for a message: it does not exist, or none is bound to the exchange. */
export class NoQueueError extends Error {}

/**
 * Writes copies of messages into queues: retries into delay queues, rejected messages into those of dead letters. It uses the connection for
 * publishing, because RabbitMQ reads nothing from a connection that has published while a memory or disk alarm is on: acks must not wait
 * behind a copy.
 */
export class QueueWriter {
  readonly #options: QueueWriterOptions;
  #writing: Promise<Writing> | undefined;
  #sequence = 0;

  constructor(options: QueueWriterOptions) {
    this.#options = options;
  }

  /**
   * Writes a message into the queue that `declare` returns. Resolves when the server has confirmed it. Rejects if it did not within the time
   * limit, or if the queue does not exist ({@link NoQueueError}).
   */
  write(declare: Declare, content: Buffer, properties: Options.Publish): Promise<void> {
    return this.#write('', declare, content, properties);
  }

  /** Writes a message into every queue that is bound to a fanout exchange. Resolves and rejects as `write`; also if no queue is bound. */
  writeToAll(exchange: string, content: Buffer, properties: Options.Publish): Promise<void> {
    return this.#write(exchange, async () => '', content, properties);
  }

  async #write(exchange: string, declare: Declare, content: Buffer, properties: Options.Publish): Promise<void> {
    const { link, timeoutMs } = this.#options;
    if (link.blocked !== undefined) throw new Error(`RabbitMQ has blocked publishers: ${link.blocked}.`);
    let used: Promise<Writing> | undefined;
    const writing = (async () => {
      used = this.#open();
      const { connection, channel, returned } = await used;
      const queue = await declare(channel, connection);
      const copy = String(++this.#sequence);
      const headers = { ...properties.headers, [copyHeader]: copy };
      await new Promise<void>((resolve, reject) => {
        channel.publish(exchange, queue, content, { ...properties, headers, persistent: true, mandatory: true }, (error) => {
          if (error) reject(error);
          else if (returned.delete(copy))
            reject(new NoQueueError(exchange ? `No queue is bound to the exchange ${exchange}.` : `There is no queue ${queue}.`));
          else resolve();
        });
      });
      return true;
    })();
    const deadline = new PublishDeadline(timeoutMs);
    try {
      if (await deadline.race(writing)) return;
    } finally {
      deadline.end();
    }
    // Its late confirm must not be waited for by anybody.
    this.#forget(used);
    throw new Error(`RabbitMQ did not confirm within ${timeoutMs} ms.`);
  }

  async close(): Promise<void> {
    const writing = await this.#writing?.catch(() => undefined);
    this.#writing = undefined;
    await settledWithin(this.#options.timeoutMs, writing?.channel.close());
  }

  #forget(used: Promise<Writing> | undefined): void {
    if (this.#writing === used) this.#writing = undefined;
    used?.then(({ channel }) => channel.close()).catch(() => undefined);
  }

  #open(): Promise<Writing> {
    if (this.#writing) return this.#writing;
    const opening = (async () => {
      const connection = await this.#options.link.connection();
      const channel = await connection.createConfirmChannel();
      const returned = new Set<string>();
      channel.on('error', () => {
        // The write that fails reports it.
      });
      channel.on('return', ({ properties }) => returned.add(String(properties.headers?.[copyHeader])));
      return { connection, channel, returned };
    })();
    this.#writing = opening;
    const forget = (): void => {
      if (this.#writing === opening) this.#writing = undefined;
    };
    opening.then(({ channel }) => channel.on('close', forget), forget);
    return opening;
  }
}
