import type { Publisher } from '@holdfast/broker';
import {
  type Actor,
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  defaultLogger,
  durationMs,
  InvalidArgumentError,
  keyText,
  type ListQuery,
  type Logger,
  Once,
  openDatabase,
  requireTransaction,
  type SqlRunner,
  transactionTrace,
  type Waker,
  Wakers,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { OutboxInspection, type OutboxStats } from './inspect.ts';
import { checkTopics, laneCount, type NewMessage, newMessage, type PutOptions } from './new-message.ts';
import { type DeadFilter, purgeDead, type RedriveOptions, redriveDead } from './redrive.ts';
import { Relay, type RelayOptions } from './relay/relay.ts';
import { insertMessages } from './table/insert-messages.ts';
import { outboxSchema } from './table/schema.ts';
import type { PayloadInput, Topics } from './topic.ts';
import { TrackedTable, type TrackOptions } from './track.ts';

/** Where messages are kept, which topics there are, and where relays publish. */
export interface OutboxOptions<T extends Topics> extends DatabaseOptions {
  readonly topics: T;
  /** Where relays publish. Not needed by a process that only puts. */
  readonly publisher?: Publisher;
  /** Larger payloads are refused. Default 256 KiB. */
  readonly maxBodyBytes?: number;
  /** How long a caller's `id` makes later puts with it do nothing. Default 7 days. */
  readonly idWindow?: Duration;
  /** Tells relays in other processes of new messages. Default: LISTEN on Postgres, the file's version on SQLite; else relays look each second. */
  readonly waker?: Waker;
  readonly logger?: Logger;
}

/** What came of a put. */
export interface Put {
  /** The message's id, as consumers see it. */
  readonly id: string;
  /** Whether a message with this id was put before: then nothing was written. */
  readonly duplicate: boolean;
}

/** One of many messages. */
export interface PutMany<Input> {
  readonly payload: Input;
  readonly options?: Omit<PutOptions, 'id'>;
}

/** Puts that commit with a transaction. */
export interface OutboxTransaction<T extends Topics> {
  /**
   * Puts a message, which is published once the root transaction has committed, and never if it does not.
   * @throws UnknownTopicError, InvalidPayloadError, NotInTransactionError
   */
  put<Name extends keyof T & string>(topic: Name, payload: PayloadInput<T[Name]>, options?: PutOptions): Promise<Put>;
  /** Thousands of messages in a few statements. Returns their ids, in order. */
  putMany<Name extends keyof T & string>(topic: Name, messages: readonly PutMany<PayloadInput<T[Name]>>[]): Promise<string[]>;
  /** Takes back a message that is still delayed. Returns whether it was. */
  cancel(id: string): Promise<boolean>;
}

const onceScope = 'outbox';

/** Messages that commit with your rows, and relays that publish them. */
export class Outbox<T extends Topics> {
  readonly topics: T;
  readonly database: Database;
  readonly logger: Logger;
  readonly #publisher: Publisher | undefined;
  readonly #maxBodyBytes: number;
  readonly #idWindowMs: number;
  readonly #once: Once;
  readonly #inspection: OutboxInspection;
  readonly #relays = new Set<Relay>();
  readonly #wakers: Wakers;
  #turn = 0;

  constructor(options: OutboxOptions<T>) {
    checkTopics(options?.topics);
    this.topics = options.topics;
    this.logger = options.logger ?? defaultLogger;
    this.database = openDatabase(options);
    this.#publisher = options.publisher;
    this.#maxBodyBytes = options.maxBodyBytes ?? 262_144;
    if (!Number.isInteger(this.#maxBodyBytes) || this.#maxBodyBytes < 1)
      throw new InvalidArgumentError(`maxBodyBytes is ${options.maxBodyBytes}; give a whole number of bytes.`);
    this.#idWindowMs = durationMs(options.idWindow ?? '7d', 'idWindow');
    this.#wakers = new Wakers({ database: this.database, channel: 'outbox', waker: options.waker, logger: this.logger });
    this.#once = new Once(this.database);
    this.#inspection = new OutboxInspection(this.database, () => this.#wakers.wake());
  }

  /**
   * Puts that are published if and only if the ROOT transaction of `trx` commits.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): OutboxTransaction<T> {
    requireTransaction(trx, 'in(trx)');
    const executor = (): Promise<SqlRunner> => this.database.within(trx, 'put');
    return {
      put: async (topic, payload, options = {}) => {
        const message = await this.#message(topic, payload, options);
        const put = await this.#write(await executor(), message, options);
        if (!put.duplicate) await this.#wakeAfterCommit(trx, [message]);
        return put;
      },
      putMany: async (topic, messages) => {
        const rows = await this.#messages(topic, messages);
        const sql = await executor();
        for (let from = 0; from < rows.length; from += 1_000) await insertMessages(this.database, sql, rows.slice(from, from + 1_000));
        await this.#wakeAfterCommit(trx, rows);
        return rows.map((row) => row.message_id);
      },
      cancel: async (id) => this.#cancel(await executor(), id),
    };
  }

  /** Puts in transactions of their own, for what goes with no other change. */
  now(): OutboxTransaction<T> {
    return {
      put: async (topic, payload, options = {}) => {
        const message = await this.#message(topic, payload, options);
        const put =
          options.id === undefined && message.order === 'causal'
            ? await this.database.use((sql) => this.#write(sql, message, options))
            : await this.database.transaction((sql) => this.#write(sql, message, options));
        if (!put.duplicate) this.#wakeFor([message]);
        return put;
      },
      putMany: async (topic, messages) => {
        const rows = await this.#messages(topic, messages);
        await this.database.transaction(async (sql) => {
          for (let from = 0; from < rows.length; from += 1_000) await insertMessages(this.database, sql, rows.slice(from, from + 1_000));
        });
        this.#wakeFor(rows);
        return rows.map((row) => row.message_id);
      },
      cancel: (id) => this.database.transaction((sql) => this.#cancel(sql, id)),
    };
  }

  /** A relay: start it with `await relay.start()`. As many as you like, in as many processes, share the work. */
  relay(options: RelayOptions = {}): Relay {
    const publisher = this.#publisher;
    if (!publisher)
      throw new InvalidArgumentError('A relay needs a publisher; pass one to createOutbox, as in { publisher: kafka({ brokers }) }.');
    const relay = new Relay(
      {
        database: this.database,
        publisher,
        logger: this.logger,
        listen: (listener) => {
          const listen = (notes: readonly string[]): void => {
            if (notes.length === 0) listener(undefined);
            for (const note of notes) listener(Number(note));
          };
          this.#relays.add(relay);
          const end = this.#wakers.listen(listen);
          return () => {
            this.#relays.delete(relay);
            end();
          };
        },
      },
      options,
    );
    return relay;
  }

  /** Publishes rows of a table of yours that carry their own state, instead of messages: see {@link TrackedTable}. */
  track<Row extends Record<string, unknown>>(table: string, options: TrackOptions<Row>): TrackedTable<Row> {
    const publisher = this.#publisher;
    if (!publisher) throw new InvalidArgumentError('track publishes, so it needs a publisher; pass one to createOutbox.');
    return new TrackedTable<Row>({ database: this.database, publisher, logger: this.logger }, table, options);
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    const { warnings } = await this.database.describe();
    for (const warning of warnings) this.logger.warn({}, warning);
    const newer = await checkMigrated(this.database, [coreSchema, outboxSchema]);
    if (newer.length > 0)
      this.logger.warn({ newer }, 'the tables were migrated by a newer version; this one goes on, since migrations only add');
  }

  /** For operators' tools. */
  inspect(): OutboxInspection {
    return this.#inspection;
  }

  /** Figures for gauges and dashboards. */
  stats(): Promise<OutboxStats> {
    return this.#inspection.overview();
  }

  /** Messages by `status`: `waiting` (default), `parked`, `delayed`, `dead`. */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#inspection.list(query);
  }

  /** A message that is not published yet, by its id. */
  get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    return this.#inspection.get(id);
  }

  /** Publishes dead letters again: see {@link RedriveOptions}. Returns how many. */
  async redrive(filter: DeadFilter, options: RedriveOptions, by: Actor): Promise<number> {
    const count = await redriveDead(this.database, filter, options, by);
    if (count > 0 && !options.dryRun) this.#wakers.wake();
    return count;
  }

  /** Lets a held key go on now. Returns whether it was held. */
  async release(topic: string, key: string): Promise<boolean> {
    const changed = await this.database.run(`UPDATE ${this.database.table('outbox_held')} SET until_at = {now} WHERE hold = ?`, [
      `${topic} ${key}`,
    ]);
    if (changed > 0) this.#wakers.wake();
    return changed > 0;
  }

  /** Deletes dead letters older than `dead`, and ids whose window is over. Returns how many dead letters. */
  async purge(age: { readonly dead: Duration }): Promise<number> {
    await this.#once.purge();
    return purgeDead(this.database, age.dead);
  }

  /** Stops relays and ends the loops' connections. The service's knex and the publisher stay open. */
  async close(): Promise<void> {
    for (const relay of [...this.#relays]) await relay.stop();
    await this.#wakers.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #message(topic: string, payload: unknown, options: PutOptions): Promise<NewMessage> {
    return newMessage(this.topics, { maxBodyBytes: this.#maxBodyBytes, freeLane: () => this.#freeLane() }, topic, payload, options);
  }

  async #messages(topic: string, messages: readonly PutMany<unknown>[]): Promise<NewMessage[]> {
    if (!Array.isArray(messages)) throw new InvalidArgumentError('putMany takes an array of { payload, options }.');
    const rows: NewMessage[] = [];
    for (const { payload, options } of messages) {
      if (options && 'id' in options) throw new InvalidArgumentError('id is an option of put: putMany takes none.');
      rows.push(await this.#message(topic, payload, options ?? {}));
    }
    return rows;
  }

  async #write(sql: SqlRunner, message: NewMessage, options: PutOptions): Promise<Put> {
    if (options.id !== undefined) {
      const entry = await this.#once.enter(sql, onceScope, options.id, this.#idWindowMs);
      if (!entry.first) return { id: options.id, duplicate: true };
    }
    await insertMessages(this.database, sql, [message]);
    return { id: message.message_id, duplicate: false };
  }

  async #cancel(sql: SqlRunner, id: string): Promise<boolean> {
    return (await sql.run(`DELETE FROM ${this.database.table('outbox_delayed')} WHERE message_id = ?`, [keyText('id', id)])) > 0;
  }

  /** One that a relay of this process has: then nobody else must be told. Else any. */
  #freeLane(): number {
    for (const relay of this.#relays) {
      const lane = relay.nextLane();
      if (lane !== undefined) return lane;
    }
    return this.#turn++ % laneCount;
  }

  async #wakeAfterCommit(trx: Knex.Transaction, messages: readonly NewMessage[]): Promise<void> {
    (await transactionTrace(trx)).add(() => this.#wakeFor(messages));
  }

  #wakeFor(messages: readonly NewMessage[]): void {
    const lanes = new Set(messages.filter(({ due }) => !due).map(({ lane }) => lane));
    for (const lane of lanes) {
      this.#wakers.wakeHere(String(lane));
      if (![...this.#relays].some((relay) => relay.owns(lane))) this.#wakers.wakeElsewhere(String(lane));
    }
    // Whoever has the lane looks when the next one is due.
    if (messages.some(({ due }) => due)) this.#wakers.wake();
  }
}

/** Creates an outbox. @throws InvalidArgumentError */
export function createOutbox<T extends Topics>(options: OutboxOptions<T>): Outbox<T> {
  return new Outbox(options);
}
