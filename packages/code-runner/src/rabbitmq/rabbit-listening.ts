import { checkpoint, type Logger } from '@holdfast/core';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import type { QueueListener } from '../queue/run-queue.ts';

export interface ListeningOptions {
  readonly name: string;
  readonly pools: readonly string[];
  readonly prefetch: number;
  readonly listener: QueueListener;
  readonly open: (channel: Channel) => Promise<void>;
  readonly logger: Logger;
}

/** A worker's consumers: one per pool, which is there only while a slot is free, and one for dead letters. */
export class RabbitListening {
  readonly #options: ListeningOptions;
  readonly #wanted: Map<string, boolean>;
  readonly #tags = new Map<string, string>();
  #channel: Channel | undefined;
  #changing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: ListeningOptions) {
    this.#options = options;
    this.#wanted = new Map(options.pools.map((pool) => [pool, true]));
  }

  async consume(connection: ChannelModel): Promise<void> {
    if (this.#closed) return;
    const channel = await connection.createChannel();
    channel.on('error', (err) => this.#options.logger.debug({ err }, 'a RabbitMQ channel failed'));
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.#channel = undefined;
      this.#tags.clear();
      // The connection may live on: a queue was deleted.
      if (!this.#closed) setTimeout(() => void this.consume(connection).catch(() => undefined), 500).unref();
    });
    await channel.prefetch(this.#options.prefetch);
    await this.#options.open(channel);
    this.#channel = channel;
    await channel.consume(`${this.#options.name}.dead`, (message) => void this.#dead(channel, message));
    await this.#change();
  }

  want(pool: string, wanted: boolean): void {
    if (this.#wanted.get(pool) === wanted) return;
    this.#wanted.set(pool, wanted);
    void this.#change().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const pool of this.#wanted.keys()) this.#wanted.set(pool, false);
    await this.#change().catch(() => undefined);
    const channel = this.#channel;
    this.#channel = undefined;
    await channel?.close().catch(() => undefined);
  }

  /** Makes consumers what is wanted, one change after the other. */
  #change(): Promise<void> {
    this.#changing = this.#changing.then(async () => {
      const channel = this.#channel;
      if (!channel) return;
      for (const [pool, wanted] of this.#wanted) {
        const tag = this.#tags.get(pool);
        if (wanted && tag === undefined) {
          const { consumerTag } = await channel.consume(`${this.#options.name}.${pool}`, (message) => {
            if (message === null) void channel.close().catch(() => undefined);
            else void this.#look(channel, pool, message);
          });
          this.#tags.set(pool, consumerTag);
        } else if (!wanted && tag !== undefined) {
          this.#tags.delete(pool);
          await channel.cancel(tag);
        }
      }
    });
    return this.#changing;
  }

  /** Looks; what was found is committed when the message is acknowledged. */
  async #look(channel: Channel, pool: string, message: ConsumeMessage): Promise<void> {
    await this.#options.listener.look(pool);
    await checkpoint('runner:looked');
    settle(() => channel.ack(message));
  }

  async #dead(channel: Channel, message: ConsumeMessage | null): Promise<void> {
    if (message === null) return;
    try {
      const { runId } = JSON.parse(message.content.toString()) as { runId?: unknown };
      const [death] = (message.properties.headers?.['x-death'] ?? []) as { reason?: string }[];
      await this.#options.listener.dead(String(runId), death?.reason ?? 'unknown');
      settle(() => channel.ack(message));
    } catch (err) {
      this.#options.logger.warn({ err }, 'a dead letter could not be read or dealt with; it is dropped if it is no message of ours');
      if (err instanceof SyntaxError) settle(() => channel.ack(message));
      else setTimeout(() => settle(() => channel.nack(message)), 1_000).unref();
    }
  }
}

/** The channel may be gone by now, and with it the message: it comes again. */
function settle(answer: () => void): void {
  try {
    answer();
  } catch {
    // See above.
  }
}
