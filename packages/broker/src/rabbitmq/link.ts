import { type Logger, wait } from '@holdfast/core';
import type { ChannelModel } from 'amqplib';

export interface LinkOptions {
  readonly connect: () => Promise<ChannelModel>;
  /** Whether to close the connection at the end: not one of the caller's. */
  readonly owned: boolean;
  readonly logger: Logger;
}

/** One connection, opened when first needed and again after it was lost, with growing pauses. */
export class Link {
  readonly #options: LinkOptions;
  readonly #closing = new AbortController();
  readonly #lost = new Set<() => void>();
  #connection: Promise<ChannelModel> | undefined;
  /** Why the broker takes nothing at the moment (memory, disk), if it said so. */
  blocked: string | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The connection there is, or one attempt at a new one. */
  connection(): Promise<ChannelModel> {
    if (this.closed) return Promise.reject(new Error('The broker was closed.'));
    this.#connection ??= this.#options.connect().then(
      (connection) => {
        connection.on('error', (err) => this.#options.logger.debug({ err }, 'the RabbitMQ connection failed'));
        connection.on('close', () => this.#gone());
        connection.on('blocked', (reason) => {
          this.blocked = reason;
        });
        connection.on('unblocked', () => {
          this.blocked = undefined;
        });
        return connection;
      },
      (error) => {
        this.#connection = undefined;
        throw error;
      },
    );
    return this.#connection;
  }

  /** Runs `open` until it succeeds, and again whenever the connection was lost, until this link is closed. */
  async keep(open: (connection: ChannelModel) => Promise<void>): Promise<() => void> {
    let stopped = false;
    const run = async (): Promise<void> => {
      for (let pauseMs = 100; !stopped && !this.closed; pauseMs = Math.min(pauseMs * 2, 5_000)) {
        try {
          return await open(await this.connection());
        } catch (err) {
          this.#options.logger.debug({ err }, 'RabbitMQ is not there; trying again');
        }
        await wait(pauseMs, this.#closing.signal).catch(() => undefined);
      }
    };
    const again = (): void => void run();
    this.#lost.add(again);
    await run();
    return () => {
      stopped = true;
      this.#lost.delete(again);
    };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.#closing.abort(new Error('closed'));
    const connection = await this.#connection?.catch(() => undefined);
    if (connection && this.#options.owned) await connection.close().catch(() => undefined);
  }

  #gone(): void {
    this.#connection = undefined;
    this.blocked = undefined;
    for (const again of this.#lost) again();
  }
}
