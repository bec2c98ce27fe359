import { defaultLogger, type Logger, wait } from '@holdfast/core';
import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import type { Bell, Listening, QueueListener, Rung, RunQueue, RunQueueOf } from '../queue/run-queue.ts';
import { RabbitListening } from './rabbit-listening.ts';

/** Where RabbitMQ is, and how its queues are named. */
export interface RabbitQueueOptions {
  /** `amqp://…`. */
  readonly url: string;
  /** What exchange, queues and dead letters are called. Default `compile.code`: the exchange `compile.code`, `compile.code.<pool>`, `compile.code.dead`. */
  readonly name?: string;
  /** Messages of a worker at a time that have not been looked at. Default 4. */
  readonly prefetch?: number;
  /** How long a confirm is waited for. Default 3,000 ms. */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Priorities of runs are -9 to 9; a classic queue knows 0 to this. */
const maxPriority = 18;

/**
 * Rings by RabbitMQ: one durable queue with priorities per pool, messages that are persistent, mandatory and confirmed, and a
 * dead-letter exchange. Doorbells only: what is run, and in what order, the rows decide.
 *
 * Classic queues, since RabbitMQ 3's quorum queues know no priorities. They may lose messages with a node; the sweep rings again.
 */
export function rabbitQueue(options: RabbitQueueOptions): RunQueueOf {
  return () => new RabbitQueue(options);
}

class RabbitQueue implements RunQueue {
  readonly name: string;
  readonly #options: RabbitQueueOptions;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  readonly #listeners = new Set<RabbitListening>();
  readonly #asserted = new Set<string>();
  readonly #returned = new Set<string>();
  #connection: Promise<ChannelModel> | undefined;
  #channel: Promise<ConfirmChannel> | undefined;
  #count = 0;

  constructor(options: RabbitQueueOptions) {
    this.#options = options;
    this.#logger = options.logger ?? defaultLogger;
    this.name = options.name ?? 'compile.code';
  }

  async ring(bells: readonly Bell[]): Promise<readonly Rung[]> {
    const done = new AbortController();
    const late = wait(this.#options.publishTimeoutMs ?? 3_000, done.signal).then(
      () => 'unsure' as const,
      () => 'unsure' as const,
    );
    try {
      return await Promise.all(bells.map((bell) => Promise.race([this.#ring(bell), late])));
    } finally {
      done.abort();
    }
  }

  async listen(pools: readonly string[], listener: QueueListener): Promise<Listening> {
    const listening = new RabbitListening({
      name: this.name,
      pools,
      prefetch: this.#options.prefetch ?? 4,
      listener,
      open: (channel) => this.#assertAll(channel, pools),
      logger: this.#logger,
    });
    this.#listeners.add(listening);
    if (this.#connection === undefined) await this.#connected();
    else await listening.consume(await this.#connected());
    return {
      want: (pool, wanted) => listening.want(pool, wanted),
      close: async () => {
        this.#listeners.delete(listening);
        await listening.close();
      },
    };
  }

  async probe(): Promise<void> {
    await this.#open();
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new Error('the queue was closed'));
    for (const listening of this.#listeners) await listening.close();
    const channel = await this.#channel?.catch(() => undefined);
    await channel?.waitForConfirms().catch(() => undefined);
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.close().catch(() => undefined);
  }

  async #ring(bell: Bell): Promise<Rung> {
    // Unroutable: somebody has deleted the queue or its binding. It is made again, once, before a person is called.
    const first = await this.#publish(bell);
    if (first !== 'unroutable') return first;
    this.#asserted.clear();
    return this.#publish(bell);
  }

  async #publish(bell: Bell): Promise<Rung> {
    try {
      const channel = await this.#open();
      if (!this.#asserted.has(bell.pool)) {
        await this.#assertAll(channel, [bell.pool]);
        this.#asserted.add(bell.pool);
      }
      const messageId = `${bell.runId}/${++this.#count}`;
      return await new Promise<Rung>((resolve) => {
        const closed = (): void => resolve('unsure');
        channel.once('close', closed);
        channel.publish(
          this.name,
          bell.pool,
          Buffer.from(JSON.stringify({ runId: bell.runId, pool: bell.pool })),
          {
            persistent: true,
            mandatory: true,
            priority: Math.min(Math.max(0, bell.priority + 9), maxPriority),
            messageId,
            contentType: 'application/json',
          },
          (error) => {
            channel.off('close', closed);
            // A return precedes its confirm.
            if (this.#returned.delete(messageId)) resolve('unroutable');
            else resolve(error ? 'unsure' : 'rung');
          },
        );
      });
    } catch (err) {
      this.#logger.debug({ err, runId: bell.runId }, 'the message of a run did not reach RabbitMQ; the sweep sends it again');
      return 'unsure';
    }
  }

  /** Exchange, queues and dead letters, as they are to be. */
  async #assertAll(channel: Channel, pools: readonly string[]): Promise<void> {
    const dead = `${this.name}.dead`;
    await channel.assertExchange(this.name, 'direct', { durable: true });
    await channel.assertExchange(`${this.name}.dlx`, 'fanout', { durable: true });
    await channel.assertQueue(dead, { durable: true });
    await channel.bindQueue(dead, `${this.name}.dlx`, '');
    for (const pool of pools) {
      await channel.assertQueue(`${this.name}.${pool}`, {
        durable: true,
        maxPriority,
        deadLetterExchange: `${this.name}.dlx`,
        arguments: { 'x-queue-type': 'classic' },
      });
      await channel.bindQueue(`${this.name}.${pool}`, this.name, pool);
    }
  }

  #open(): Promise<ConfirmChannel> {
    this.#channel ??= (async () => {
      try {
        const channel = await (await this.#connected()).createConfirmChannel();
        channel.setMaxListeners(0);
        channel.on('error', () => undefined);
        channel.on('close', () => {
          this.#channel = undefined;
          this.#asserted.clear();
        });
        channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
        return channel;
      } catch (error) {
        this.#channel = undefined;
        throw error;
      }
    })();
    return this.#channel;
  }

  /** The connection there is, or one attempt at another. Listeners come along whenever there is a new one. */
  #connected(): Promise<ChannelModel> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason);
    this.#connection ??= connect(this.#options.url, { timeout: 5_000 }).then(
      async (connection) => {
        connection.on('error', (err) => this.#logger.debug({ err }, 'the RabbitMQ connection failed'));
        connection.on('close', () => {
          this.#connection = undefined;
          void this.#again();
        });
        for (const listening of this.#listeners) await listening.consume(connection);
        return connection;
      },
      (error) => {
        this.#connection = undefined;
        const { message, code } = error as { message?: string; code?: string };
        throw new Error(
          `RabbitMQ can't be reached at ${new URL(this.#options.url).host}: ${message || code}. Check the address, and that the server runs.`,
          {
            cause: error,
          },
        );
      },
    );
    return this.#connection;
  }

  async #again(): Promise<void> {
    for (let pauseMs = 100; !this.#closing.signal.aborted && this.#listeners.size > 0; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      const up = await this.#connected().then(
        () => true,
        () => false,
      );
      if (up) return;
      await wait(pauseMs, this.#closing.signal).catch(() => undefined);
    }
  }
}
