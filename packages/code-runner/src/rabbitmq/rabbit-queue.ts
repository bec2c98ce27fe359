import { guardLogger, type Logger, OutageLog, wait } from '@holdfast/core';
import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import type { Listening, QueueListener, QueueSignal, RunQueue, RunQueueOf, SignalResult } from '../queue/run-queue.ts';
import { RabbitListening } from './rabbit-listening.ts';

/** Options of {@link rabbitQueue}. */
export interface RabbitQueueOptions {
  /** Address of the server: `amqp://user:password@host:5672`. */
  readonly url: string;
  /**
   * Name of the exchange, and prefix of the queues `<name>.<pool>` and `<name>.dead`. All processes of a service use the same name.
   * Default `compile.code`.
   */
  readonly name?: string;
  /** Unacknowledged messages per worker. Default 4. */
  readonly prefetch?: number;
  /** How long a publish waits for its confirm, in ms. After that the result is `unsure`, and the sweep sends it again. Default 3,000. */
  readonly publishTimeoutMs?: number;
  readonly logger?: Logger;
}

/** Priorities of runs are -9 to 9; those of the queues are 0 to this. */
const maxPriority = 18;

/**
 * Sends signals over RabbitMQ: one durable queue with priorities per pool, persistent, mandatory and confirmed messages, and a
 * dead-letter exchange. The messages are signals only: the rows decide which runs start, and in which order.
 *
 * The queues are classic, since quorum queues of RabbitMQ 3 have no priorities. A node that is lost may take messages with it; the
 * sweep sends them again.
 */
export function rabbitQueue(options: RabbitQueueOptions): RunQueueOf {
  return () => new RabbitQueue(options);
}

class RabbitQueue implements RunQueue {
  readonly name: string;
  readonly #options: RabbitQueueOptions;
  readonly #logger: Logger;
  readonly #outage: OutageLog;
  readonly #closing = new AbortController();
  readonly #listeners = new Set<RabbitListening>();
  readonly #asserted = new Set<string>();
  readonly #returned = new Set<string>();
  #connection: Promise<ChannelModel> | undefined;
  #channel: Promise<ConfirmChannel> | undefined;
  #count = 0;

  constructor(options: RabbitQueueOptions) {
    this.#options = options;
    this.#logger = guardLogger(options.logger);
    this.#outage = new OutageLog(this.#logger);
    this.name = options.name ?? 'compile.code';
  }

  async send(signals: readonly QueueSignal[]): Promise<readonly SignalResult[]> {
    const done = new AbortController();
    const late = wait(this.#options.publishTimeoutMs ?? 3_000, done.signal).then(
      () => 'unsure' as const,
      () => 'unsure' as const,
    );
    try {
      return await Promise.all(signals.map((signal) => Promise.race([this.#send(signal), late])));
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

  async #send(signal: QueueSignal): Promise<SignalResult> {
    // Unroutable: the queue or its binding was deleted. It is declared again once; if that does not help, the run fails.
    const first = await this.#publish(signal);
    if (first !== 'unroutable') return first;
    this.#asserted.clear();
    return this.#publish(signal);
  }

  async #publish(signal: QueueSignal): Promise<SignalResult> {
    try {
      const channel = await this.#open();
      if (!this.#asserted.has(signal.pool)) {
        await this.#assertAll(channel, [signal.pool]);
        this.#asserted.add(signal.pool);
      }
      const messageId = `${signal.runId}/${++this.#count}`;
      return await new Promise<SignalResult>((resolve) => {
        const closed = (): void => resolve('unsure');
        channel.once('close', closed);
        channel.publish(
          this.name,
          signal.pool,
          Buffer.from(JSON.stringify({ runId: signal.runId, pool: signal.pool })),
          {
            persistent: true,
            mandatory: true,
            priority: Math.min(Math.max(0, signal.priority + 9), maxPriority),
            messageId,
            contentType: 'application/json',
          },
          (error) => {
            channel.off('close', closed);
            // The broker returns a message before it confirms it.
            if (this.#returned.delete(messageId)) resolve('unroutable');
            else resolve(error ? 'unsure' : 'sent');
          },
        );
      });
    } catch (err) {
      this.#logger.debug({ err, runId: signal.runId }, 'the message of a run did not reach RabbitMQ; the sweep sends it again');
      return 'unsure';
    }
  }

  /** Declares exchanges, queues and bindings. */
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

  /** Returns the open connection, or makes one attempt at a new one, to which all listeners then move. */
  #connected(): Promise<ChannelModel> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason);
    this.#connection ??= connect(this.#options.url, { timeout: 5_000 }).then(
      async (connection) => {
        connection.on('error', (err) =>
          this.#outage.failed(err, 'the RabbitMQ connection failed; it is opened again. The sweep finds runs meanwhile'),
        );
        connection.on('close', () => {
          this.#connection = undefined;
          void this.#reconnect();
        });
        for (const listening of this.#listeners) await listening.consume(connection);
        this.#outage.works('RabbitMQ can be reached again');
        return connection;
      },
      (error) => {
        this.#connection = undefined;
        this.#outage.failed(error, "RabbitMQ can't be reached; trying again. The sweep finds runs meanwhile");
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

  async #reconnect(): Promise<void> {
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
