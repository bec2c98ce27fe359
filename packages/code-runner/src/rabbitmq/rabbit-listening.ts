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

/** A worker's consumers: one per pool, which exists only while a slot is free, and one for dead letters. */
export class RabbitListening {
  readonly #options: ListeningOptions;
  readonly #wanted: Map<string, boolean>;
  readonly #tags = new Map<string, string>();
  #channel: Channel | undefined;
  #updating: Promise<void> = Promise.resolve();
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
      // Only the channel closed, for example because a queue was deleted: the connection may still be open.
      if (!this.#closed) setTimeout(() => void this.consume(connection).catch(() => undefined), 500).unref();
    });
    await channel.prefetch(this.#options.prefetch);
    await this.#options.open(channel);
    this.#channel = channel;
    await channel.consume(`${this.#options.name}.dead`, (message) => void this.#dead(channel, message));
    await this.#update();
  }

  want(pool: string, wanted: boolean): void {
    if (this.#wanted.get(pool) === wanted) return;
    this.#wanted.set(pool, wanted);
    void this.#update().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const pool of this.#wanted.keys()) this.#wanted.set(pool, false);
    await this.#update().catch(() => undefined);
    const channel = this.#channel;
    this.#channel = undefined;
    await channel?.close().catch(() => undefined);
  }

  /** Starts and cancels consumers as wanted, one change at a time. */
  #update(): Promise<void> {
    this.#updating = this.#updating.then(async () => {
      const channel = this.#channel;
      if (!channel) return;
      for (const [pool, wanted] of this.#wanted) {
        const tag = this.#tags.get(pool);
        if (wanted && tag === undefined) {
          const { consumerTag } = await channel.consume(`${this.#options.name}.${pool}`, (message) => {
            if (message === null) void channel.close().catch(() => undefined);
            else void this.#claimMore(channel, pool, message);
          });
          this.#tags.set(pool, consumerTag);
        } else if (!wanted && tag !== undefined) {
          this.#tags.delete(pool);
          await channel.cancel(tag);
        }
      }
    });
    return this.#updating;
  }

  /** Acknowledges the message after the claim was committed. */
  async #claimMore(channel: Channel, pool: string, message: ConsumeMessage): Promise<void> {
    await this.#options.listener.claimMore(pool);
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
      this.#options.logger.warn({ err }, 'a dead letter could not be handled; it is dropped if it is not a message of this package');
      if (err instanceof SyntaxError) settle(() => channel.ack(message));
      else setTimeout(() => settle(() => channel.nack(message)), 1_000).unref();
    }
  }
}

/** If the channel has closed meanwhile, the broker delivers the message again. */
function settle(answer: () => void): void {
  try {
    answer();
  } catch {
    // The channel has closed.
  }
}
