import { type Logger, wait } from '@holdfast/core';
import type { ChannelModel } from 'amqplib';

export interface LinkOptions {
  readonly connect: () => Promise<ChannelModel>;
  /** True if `close` closes the connection; false for one of the caller's. */
  readonly owned: boolean;
  readonly logger: Logger;
}

/** One connection: opened when first needed, and again after it was lost, with growing pauses. */
export class Link {
  readonly #options: LinkOptions;
  readonly #closing = new AbortController();
  /** Called after the connection was lost. */
  readonly #reopen = new Set<() => void>();
  #connection: Promise<ChannelModel> | undefined;
  /** The reason why the server takes no messages at present (memory, disk); `undefined` while it does. */
  blocked: string | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The open connection, or one attempt to open it. */
  connection(): Promise<ChannelModel> {
    if (this.closed) return Promise.reject(new Error('The broker was closed.'));
    this.#connection ??= this.#options.connect().then(
      (connection) => {
        connection.on('error', (err) => this.#options.logger.debug({ err }, 'the RabbitMQ connection failed'));
        connection.on('close', () => this.#closed());
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

  /**
   * Runs `open` until it succeeds, and again whenever the connection was lost, until this link is closed or the returned function is
   * called.
   */
  async keepOpen(open: (connection: ChannelModel) => Promise<void>): Promise<() => void> {
    let stopped = false;
    const run = async (): Promise<void> => {
      for (let pauseMs = 100; !stopped && !this.closed; pauseMs = Math.min(pauseMs * 2, 5_000)) {
        try {
          return await open(await this.connection());
        } catch (err) {
          this.#options.logger.debug({ err }, 'RabbitMQ can not be reached; trying again');
        }
        await wait(pauseMs, this.#closing.signal).catch(() => undefined);
      }
    };
    const again = (): void => void run();
    this.#reopen.add(again);
    await run();
    return () => {
      stopped = true;
      this.#reopen.delete(again);
    };
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.#closing.abort(new Error('closed'));
    const connection = await this.#connection?.catch(() => undefined);
    if (connection && this.#options.owned) await connection.close().catch(() => undefined);
  }

  #closed(): void {
    this.#connection = undefined;
    this.blocked = undefined;
    for (const again of this.#reopen) again();
  }
}
