import type { Publisher } from '@holdfast/broker';
import {
  type Actor,
  type BulkCounts,
  checkTables,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  durationMs,
  guardLogger,
  InvalidArgumentError,
  keyText,
  type ListQuery,
  type Logger,
  openDatabase,
  type Waker,
  Wakers,
  wholeNumber,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { OutboxInspection, type OutboxStats } from './operate/inspect.ts';
import { type DeadFilter, purgeDead, type RedriveOptions, redriveDead } from './operate/redrive.ts';
import { type OutboxTransaction, Putter } from './put/putter.ts';
import { checkTopics, type Topics } from './put/topic.ts';
import { LocalRelays } from './relay/local-relays.ts';
import { Relay, type RelayOptions } from './relay/relay.ts';
import { outboxSchema } from './table/schema.ts';
import { TrackedTable, type TrackOptions } from './track/tracked-table.ts';

/** Options of an outbox. */
export interface OutboxOptions<T extends Topics> extends DatabaseOptions {
  /** Topics by name. */
  readonly topics: T;
  /** Broker that relays publish to. Default none, for a process that only puts: `relay` and `track` throw then. */
  readonly publisher?: Publisher;
  /** Largest payload in bytes; a put of a larger one throws InvalidPayloadError. Default 262,144 (256 KiB). */
  readonly maxBodyBytes?: number;
  /** Time for which the `id` of a put makes later puts with the same id do nothing. Default 7 days. */
  readonly idWindow?: Duration;
  /** Time for which relays keep dead letters; older ones are deleted, with a warning in the log. Default 90 days. */
  readonly keepDead?: Duration;
  /**
   * Wakes relays of other processes when messages are put. Default: LISTEN on Postgres, the file's data version on SQLite, none on MySQL
   * and MariaDB. Relays that are not woken read each second.
   */
  readonly waker?: Waker;
  /** Default: warnings and errors, one line each on standard error. */
  readonly logger?: Logger;
}

/** Messages that commit with your rows, and relays that publish them. */
export class Outbox<T extends Topics> {
  readonly topics: T;
  readonly database: Database;
  readonly logger: Logger;
  readonly #publisher: Publisher | undefined;
  readonly #putter: Putter<T>;
  readonly #inspection: OutboxInspection;
  readonly #relays: LocalRelays;
  readonly #wakers: Wakers;
  readonly #keepDeadMs: number;

  constructor(options: OutboxOptions<T>) {
    checkTopics(options?.topics);
    this.topics = options.topics;
    this.logger = guardLogger(options.logger);
    this.database = openDatabase(options);
    this.#publisher = options.publisher;
    const maxBodyBytes = wholeNumber('maxBodyBytes', options.maxBodyBytes ?? 262_144);
    const idWindowMs = durationMs(options.idWindow ?? '7d', 'idWindow');
    this.#keepDeadMs = durationMs(options.keepDead ?? '90d', 'keepDead');
    this.#wakers = new Wakers({ database: this.database, channel: 'outbox', waker: options.waker, logger: this.logger });
    this.#relays = new LocalRelays(this.#wakers);
    this.#putter = new Putter({
      database: this.database,
      topics: this.topics,
      maxBodyBytes,
      idWindowMs,
      freeLane: () => this.#relays.freeLane(),
      onCommitted: (messages) => this.#relays.wakeFor(messages),
    });
    this.#inspection = new OutboxInspection(this.database, () => this.#wakers.wake());
  }

  /**
   * Puts messages that are published if and only if the ROOT transaction of `trx` commits.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): OutboxTransaction<T> {
    return this.#putter.in(trx);
  }

  /** Puts messages in transactions of their own, for messages that go with no other change. */
  now(): OutboxTransaction<T> {
    return this.#putter.now();
  }

  /**
   * Creates a relay; start it with `await relay.start()`. Any number of relays, in any number of processes, share the lanes.
   * @throws InvalidArgumentError
   */
  relay(options: RelayOptions = {}): Relay {
    const publisher = this.#publisher;
    if (!publisher)
      throw new InvalidArgumentError('A relay needs a publisher; pass one to createOutbox, as in { publisher: kafka({ brokers }) }.');
    const relay: Relay = new Relay(
      {
        database: this.database,
        publisher,
        logger: this.logger,
        listen: (listener) => this.#relays.add(relay, listener),
        purge: (signal) => this.#purge(signal),
      },
      options,
    );
    return relay;
  }

  /**
   * Publishes rows of one of your tables that carry their own state, instead of messages: see {@link TrackedTable}.
   * @throws InvalidArgumentError
   */
  track<Row extends Record<string, unknown>>(table: string, options: TrackOptions<Row>): TrackedTable<Row> {
    const publisher = this.#publisher;
    if (!publisher) throw new InvalidArgumentError('track publishes, so it needs a publisher; pass one to createOutbox.');
    return new TrackedTable<Row>({ database: this.database, publisher, logger: this.logger }, table, options);
  }

  /**
   * Checks the database and the version of its tables; call it before the service starts. Logs a warning if the tables are newer.
   * @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError
   */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, outboxSchema], this.logger);
  }

  /** The view for operators' tools: it goes into `holdfast.config.ts`, for the `holdfast` command. */
  inspect(): OutboxInspection {
    return this.#inspection;
  }

  /** Figures for gauges and dashboards. */
  stats(): Promise<OutboxStats> {
    return this.#inspection.overview();
  }

  /** Messages of one `status` by row id: `waiting` (default), `parked`, `delayed` or `dead`. */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#inspection.list(query);
  }

  /** A message that is not published yet, by its message id. */
  get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    return this.#inspection.get(id);
  }

  /**
   * Publishes all dead letters that match again, in pages of up to 200, each in a transaction of its own with its record in the audit table.
   * Set `rate` to what the consumers can take, and look with `dryRun` first. A call that was stopped is called again.
   * @throws InvalidArgumentError
   */
  redrive(filter: DeadFilter, options: RedriveOptions): Promise<BulkCounts>;
  /** The same, with the person apart from the options. Returns the number of letters that were redriven, or with `dryRun` that match. */
  redrive(filter: DeadFilter, options: RedriveOptions, by: Actor): Promise<number>;
  async redrive(filter: DeadFilter, options: RedriveOptions = {}, by?: Actor): Promise<BulkCounts | number> {
    const counts = await redriveDead(this.database, filter ?? {}, { ...options, ...by }, () => this.#wakers.wake());
    if (by === undefined) return counts;
    return options.dryRun ? counts.matched : counts.changed;
  }

  /** Publishes the messages of a held key now, without waiting for its next try. Returns whether the key was held. */
  async release(topic: string, key: string): Promise<boolean> {
    const changed = await this.database.run(`UPDATE ${this.database.table('outbox_held')} SET until_at = {now} WHERE hold = ?`, [
      `${keyText('topic', topic)} ${keyText('key', key)}`,
    ]);
    if (changed > 0) this.#wakers.wake();
    return changed > 0;
  }

  /**
   * Deletes dead letters older than `dead`, and ids whose window has ended. Returns the number of deleted dead letters. Relays do it every ten
   * minutes, with `keepDead`.
   */
  async purge(age: { readonly dead: Duration }): Promise<number> {
    return this.#purgeOlder(durationMs(age.dead, 'dead'));
  }

  async #purgeOlder(deadMs: number, signal?: AbortSignal): Promise<number> {
    await this.#putter.purgeIds(signal);
    return purgeDead(this.database, deadMs, signal);
  }

  /** Deletes what is older than its retention. Ends after the page in hand once `signal` has aborted. */
  async #purge(signal: AbortSignal): Promise<number> {
    const dead = await this.#purgeOlder(this.#keepDeadMs, signal);
    if (dead > 0)
      this.logger.warn({ dead, keepDeadMs: this.#keepDeadMs }, 'dead letters were deleted, since they were older than keepDead');
    return dead;
  }

  /** Stops the relays and closes the connections of their loops. Your knex and the publisher stay open. */
  async close(): Promise<void> {
    await this.#relays.stop();
    await this.#wakers.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Creates an outbox. @throws InvalidArgumentError */
export function createOutbox<T extends Topics>(options: OutboxOptions<T>): Outbox<T> {
  return new Outbox(options);
}
