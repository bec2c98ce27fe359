import {
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  defaultLogger,
  durationMs,
  keyText,
  type Logger,
  openDatabase,
  requireTransaction,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { outboxSchema } from '../table/schema.ts';
import { type ConsumeOptions, Consumption } from './consumption.ts';
import { InboxTable, type ParkedMessage } from './inbox-table.ts';

/** Where handled messages are noted, and for how long. */
export interface InboxOptions extends DatabaseOptions {
  /**
   * How long handled messages are remembered, counted from when each was first put. What comes later, and is not remembered, is set
   * aside. Default 7 days.
   */
  readonly retention?: Duration;
  readonly logger?: Logger;
}

/** A message, or enough of it. */
export interface OnceTarget {
  /** Who handles it: each consumer handles each message once. */
  readonly consumer: string;
  readonly messageId: string;
}

/** Whether a message was handled now, before, or is too old for anybody to know. */
export type OnceResult<T> = { readonly duplicate: false; readonly value: T } | { readonly duplicate: true };

/** Handles each message once, though it comes several times. */
export class Inbox {
  readonly database: Database;
  readonly logger: Logger;
  readonly table: InboxTable;
  readonly retentionMs: number;
  readonly #consumptions = new Set<Consumption>();

  constructor(options: InboxOptions) {
    this.database = openDatabase(options);
    this.logger = options.logger ?? defaultLogger;
    this.table = new InboxTable(this.database);
    this.retentionMs = durationMs(options.retention ?? '7d', 'retention');
  }

  /**
   * Runs `fn` unless `consumer` has handled the message: the note and what `fn` does commit together, or neither does. A second
   * delivery at the same time waits for the first to commit, and then runs nothing; if the first rolls back, it runs.
   * @throws NotInTransactionError
   */
  async once<T>(trx: Knex.Transaction, target: OnceTarget, fn: () => Promise<T> | T): Promise<OnceResult<T>> {
    requireTransaction(trx, 'inbox.once');
    const consumer = keyText('consumer', target.consumer, 100);
    const messageId = keyText('messageId', target.messageId);
    const sql = await this.database.within(trx, 'inbox.once');
    const entry = await this.table.enter(sql, consumer, messageId, undefined, this.retentionMs);
    if (entry !== 'first') return { duplicate: true };
    try {
      return { duplicate: false, value: await fn() };
    } catch (error) {
      // A caller that goes on with its transaction must not have the message noted as handled.
      await this.table.forget(sql, consumer, messageId).catch(() => undefined);
      throw error;
    }
  }

  /** Ties broker, inbox and transaction together: see {@link ConsumeOptions}. Resolves when messages arrive. */
  async consume(options: ConsumeOptions): Promise<Consumption> {
    const consumption = new Consumption(this, options);
    this.#consumptions.add(consumption);
    await consumption.start();
    return consumption;
  }

  /** Messages that were set aside, oldest first. */
  parked(consumer: string, limit: number = 100): Promise<readonly ParkedMessage[]> {
    return this.table.parked(consumer, undefined, limit);
  }

  /** Forgets handled messages that are older than the retention. Consumptions do it every ten minutes. */
  purge(): Promise<number> {
    return this.table.purge(this.retentionMs);
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    await this.database.describe();
    await checkMigrated(this.database, [coreSchema, outboxSchema]);
  }

  /** Ends consumptions and the loops' connections. The service's knex and the subscribers stay open. */
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
