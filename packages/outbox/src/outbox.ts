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
  type ListQuery,
  type Logger,
  openDatabase,
  type Waker,
  Wakers,
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

  constructor(options: OutboxOptions<T>) {
    checkTopics(options?.topics);
    this.topics = options.topics;
    this.logger = options.logger ?? defaultLogger;
    this.database = openDatabase(options);
    this.#publisher = options.publisher;
    const maxBodyBytes = options.maxBodyBytes ?? 262_144;
    if (!Number.isInteger(maxBodyBytes) || maxBodyBytes < 1)
      throw new InvalidArgumentError(`maxBodyBytes is ${options.maxBodyBytes}; give a whole number of bytes.`);
    const idWindowMs = durationMs(options.idWindow ?? '7d', 'idWindow');
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
   * Puts that are published if and only if the ROOT transaction of `trx` commits.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): OutboxTransaction<T> {
    return this.#putter.in(trx);
  }

  /** Puts in transactions of their own, for what goes with no other change. */
  now(): OutboxTransaction<T> {
    return this.#putter.now();
  }

  /** A relay: start it with `await relay.start()`. As many as you like, in as many processes, share the work. */
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
    await this.#putter.purgeIds();
    return purgeDead(this.database, age.dead);
  }

  /** Stops relays and ends the loops' connections. The service's knex and the publisher stay open. */
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
