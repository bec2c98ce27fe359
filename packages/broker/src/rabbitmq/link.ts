import { type Logger, OutageLog, settledWithin } from '@holdfast/core';
import type { ChannelModel } from 'amqplib';

export interface LinkOptions {
  readonly connect: () => Promise<ChannelModel>;
  /** True if `close` closes the connection; false for one of the caller's. */
  readonly owned: boolean;
  readonly logger: Logger;
}

/** The time for a farewell that a server may not answer: it hangs, or a memory alarm is on. */
const goodbyeMs = 2_000;

/** One connection: opened when first needed, and again after it was lost. */
export class Link {
  readonly #options: LinkOptions;
  readonly #closing = new AbortController();
  readonly #outage: OutageLog;
  #connection: Promise<ChannelModel> | undefined;
  /** The reason why the server takes no messages at present (memory, disk); `undefined` while it does. */
  blocked: string | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#outage = new OutageLog(options.logger);
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The open connection, or one attempt to open it. */
  connection(): Promise<ChannelModel> {
    if (this.closed) return Promise.reject(new Error('The broker was closed.'));
    this.#connection ??= this.#options.connect().then(
      (connection) => {
        this.#outage.works('RabbitMQ can be reached again');
        connection.on('error', (err) => this.#outage.failed(err, 'the RabbitMQ connection failed; it is opened again'));
        connection.on('close', () => this.#lost());
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
        this.#outage.failed(error, "RabbitMQ can't be reached; trying again");
        throw error;
      },
    );
    return this.#connection;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.#closing.abort(new Error('closed'));
    const connection = await this.#connection?.catch(() => undefined);
    if (connection && this.#options.owned) await settledWithin(goodbyeMs, connection.close());
  }

  #lost(): void {
    this.blocked = undefined;
    // A connection of the caller's can't be opened again: each later use of it fails.
    if (this.#options.owned) this.#connection = undefined;
  }
}
