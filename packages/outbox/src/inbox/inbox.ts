import {
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  durationMs,
  guardLogger,
  InvalidArgumentError,
  keyText,
  type Logger,
  openDatabase,
  requireTransaction,
  shownValue,
  wholeNumber,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { outboxSchema } from '../table/schema.ts';
import { type ConsumeOptions, Consumption } from './consumption.ts';
import { InboxTable, type ParkedMessage } from './inbox-table.ts';

/** Options of an inbox. */
export interface InboxOptions extends DatabaseOptions {
  /**
   * Time for which handled messages are remembered, from their first put. An older message that is not remembered is set aside, since it
   * may have been handled. Default 7 days.
   */
  readonly retention?: Duration;
  /** Time for which messages that were set aside are kept; older ones are deleted, with a warning in the log. Default 90 days. */
  readonly keepParked?: Duration;
  /** Default: warnings and errors, one line each on standard error. */
  readonly logger?: Logger;
}

/** Names a message and its consumer. */
export interface OnceTarget {
  /** The consumer, at most 100 characters. Each consumer handles each message once. */
  readonly consumer: string;
  /** Any text that is not empty. */
  readonly messageId: string;
}

/** Result of `once`: the value of the function, or `duplicate: true` if the message had been handled before. */
export type OnceResult<T> = { readonly duplicate: false; readonly value: T } | { readonly duplicate: true };

/** Lets each message take effect once per consumer, though it is delivered several times. */
export class Inbox {
  readonly database: Database;
  readonly logger: Logger;
  readonly table: InboxTable;
  readonly retentionMs: number;
  readonly #keepParkedMs: number;
  readonly #consumptions = new Set<Consumption>();

  constructor(options: InboxOptions) {
    this.database = openDatabase(options);
    this.logger = guardLogger(options.logger);
    this.table = new InboxTable(this.database);
    this.#keepParkedMs = durationMs(options.keepParked ?? '90d', 'keepParked');
    this.retentionMs = durationMs(options.retention ?? '7d', 'retention');
  }

  /**
   * Runs `fn` unless `consumer` has handled the message. The note that it is handled commits together with the changes of `fn`. A second
   * delivery at the same time waits for the first: if that commits, the second runs nothing; if it rolls back, the second runs `fn`.
   * @throws NotInTransactionError
   */
  async once<T>(trx: Knex.Transaction, target: OnceTarget, fn: () => Promise<T> | T): Promise<OnceResult<T>> {
    requireTransaction(trx, 'inbox.once');
    const consumer = keyText('consumer', target.consumer, 100);
    const { messageId } = target;
    if (typeof messageId !== 'string' || messageId === '')
      throw new InvalidArgumentError(`messageId is ${shownValue(messageId)}; give the id of the message.`);
    const sql = await this.database.within(trx, 'inbox.once');
    const entry = await this.table.enter(sql, consumer, messageId, undefined, this.retentionMs);
    if (entry !== 'first') return { duplicate: true };
    try {
      return { duplicate: false, value: await fn() };
    } catch (error) {
      // If the caller continues its transaction, the message must not be noted as handled.
      await this.table.forget(sql, consumer, messageId).catch(() => undefined);
      throw error;
    }
  }

  /** Handles the messages of a topic, each in a transaction with its note: see {@link ConsumeOptions}. Resolves when it is subscribed. */
  async consume(options: ConsumeOptions): Promise<Consumption> {
    const consumption = new Consumption(this, options);
    this.#consumptions.add(consumption);
    await consumption.start();
    return consumption;
  }

  /** Messages that were set aside, oldest first. */
  async parked(consumer: string, limit: number = 100): Promise<readonly ParkedMessage[]> {
    return this.table.parked(keyText('consumer', consumer, 100), undefined, wholeNumber('limit', limit));
  }

  /**
   * Deletes notes of handled messages older than the retention, and messages that were set aside longer ago than `keepParked`. Returns the
   * number of notes. Consumptions do it every ten minutes. Once `signal` has aborted, it ends after the page in hand.
   */
  async purge(options: { readonly signal?: AbortSignal } = {}): Promise<number> {
    const { notes, parked } = await this.table.purge(this.retentionMs, this.#keepParkedMs, options.signal);
    if (parked > 0)
      this.logger.warn(
        { parked, keepParkedMs: this.#keepParkedMs },
        'messages that had been set aside were deleted, since they were older than keepParked',
      );
    return notes;
  }

  /**
   * Checks the database and the version of its tables; call it before the service starts.
   * @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError
   */
  async check(): Promise<void> {
    await this.database.describe();
    await checkMigrated(this.database, [coreSchema, outboxSchema]);
  }

  /** Stops the consumptions and closes the connections of their loops. Your knex and the subscribers stay open. */
  async close(): Promise<void> {
    for (const consumption of this.#consumptions) await consumption.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Creates an inbox. */
export function createInbox(options: InboxOptions): Inbox {
  return new Inbox(options);
}
