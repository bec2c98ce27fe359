import {
  type Actor,
  type BulkCounts,
  type BulkOptions,
  checkTables,
  coreSchema,
  type Database,
  type EventSource,
  InvalidArgumentError,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { Delivery } from './attempt/delivery.ts';
import { type Probe, probe } from './attempt/probe.ts';
import { type Endpoints, endpointsOf } from './endpoint/endpoints.ts';
import type { NotifierEvents } from './events.ts';
import type { NotifierOptions } from './notifier-options.ts';
import { NotifierInspection, type NotifierStats } from './operate/inspect.ts';
import { type RedriveFilter, redriveEnded } from './operate/redrive.ts';
import { Retention } from './operate/retention.ts';
import { cancel, compensate, type ReplayOptions, replay, resend } from './operate/steer.ts';
import { Registry } from './registry.ts';
import type { AttemptView } from './table/notification-table.ts';
import { notifierSchema } from './table/schema.ts';
import { type NotifierTransaction, TriggerWriter } from './trigger/trigger-writer.ts';
import { NotifierWorker } from './worker/worker.ts';
import type { WorkerOptions } from './worker/worker-options.ts';

/** Keeps callbacks as rows and sends them until they are acknowledged. Made by {@link createNotifier}. */
export class Notifier {
  readonly database: Database;
  readonly #registry: Registry;
  readonly #delivery: Delivery;
  readonly #triggers: TriggerWriter;
  readonly #endpoints: Endpoints;
  readonly #inspection: NotifierInspection;
  readonly #retention: Retention;
  readonly #workers = new Set<NotifierWorker>();
  readonly #closing = new AbortController();

  constructor(options: NotifierOptions) {
    const registry = new Registry(options);
    const { database, egress, signers, keys, sealingKeys, allowHeaders, notifications, wakers, clock } = registry;
    this.#registry = registry;
    this.database = database;
    const { keep, keepFailed, remember } = options;
    this.#retention = new Retention({ database, notifications, keep, keepFailed, remember, logger: registry.logger });
    this.#inspection = new NotifierInspection(database, () => wakers.wake());
    this.#delivery = new Delivery({ egress, signers, ack: registry.ack, schedule: registry.schedule, now: () => clock.now() });
    this.#triggers = new TriggerWriter({
      database,
      endpoints: registry.endpoints,
      subscriptions: registry.endpoints.subscriptions,
      notifications,
      rules: { egress, signers, keys, sealingKeys, allowHeaders },
      wake: (endpointId) => this.#wake(endpointId),
    });
    this.#endpoints = endpointsOf({ table: registry.endpoints, egress, keys, allowHeaders, wakers });
  }

  /** Events of this process. */
  get events(): EventSource<NotifierEvents> {
    return this.#registry.events;
  }

  /**
   * Triggers that take effect if and only if the ROOT transaction of `trx` commits.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): NotifierTransaction {
    return this.#triggers.in(trx);
  }

  /** Triggers that each run in a transaction of their own. */
  now(): NotifierTransaction {
    return this.#triggers.now();
  }

  /** Creates a worker; `await worker.start()` starts it. Any number of workers, in any number of processes, share the endpoints. */
  worker(options: WorkerOptions = {}): NotifierWorker {
    const { database, endpoints, notifications, keys, sealingKeys, signers, stillWanted, callMs, clock, wakers, events, logger } =
      this.#registry;
    const worker = new NotifierWorker(
      {
        database,
        endpoints,
        delivery: this.#delivery,
        prepare: { notifications, keys, sealingKeys, signs: signers.length > 0, stillWanted, callMs, logger },
        clock,
        check: () => this.check(),
        compensate: (signal) => this.#compensate(signal),
        purge: (signal) => this.#retention.purge(signal),
        wakers,
        events,
        logger,
      },
      options,
    );
    this.#workers.add(worker);
    return worker;
  }

  /** Lists and steers endpoints. */
  get endpoints(): Endpoints {
    return this.#endpoints;
  }

  /** All attempts of a notification, oldest first. */
  attempts(id: string): Promise<readonly AttemptView[]> {
    return this.#inspection.attempts(id);
  }

  /**
   * Makes a notification due now, whatever its state. If an attempt is under way, another one follows it. Returns `false` if the notification
   * does not exist, or was superseded: its subject has a later one, and an old state is not told after a new one.
   */
  async resend(id: string, by: Actor): Promise<boolean> {
    const done = await resend(this.database, id, by);
    if (done) this.#registry.wakers.wake();
    return done;
  }

  /**
   * Ends a pending notification as CANCELLED. An attempt that is under way is not called back; it is recorded, and changes nothing. Returns
   * `false` if the notification does not exist or has ended.
   */
  cancel(id: string, by: Actor): Promise<boolean> {
    return cancel(this.database, id, by);
  }

  /** Sends notifications of an endpoint again, spread over time: see {@link ReplayOptions}. Returns their number. */
  async replay(options: ReplayOptions, by: Actor): Promise<number> {
    const count = await replay(this.database, options, by);
    if (count > 0) this.#registry.wakers.wake();
    return count;
  }

  /**
   * Makes all ended notifications that match due now, in pages of up to 200, each in a transaction of its own with its record in the audit
   * table. Set `rate` to what the receivers can take, and look with `dryRun` first. A call that was stopped is called again. For one endpoint
   * that has recovered, {@link replay} spreads the due times instead, and returns at once.
   * @throws InvalidArgumentError
   */
  async redrive(filter: RedriveFilter, options: BulkOptions): Promise<BulkCounts> {
    return redriveEnded(this.database, filter ?? {}, options ?? {}, () => this.#registry.wakers.wake());
  }

  /**
   * Finds overdue notifications that no worker is sending, and wakes their endpoints. A notification qualifies if it is unacknowledged, its
   * last attempt was over 30 minutes ago, its due time has passed, and it has had fewer attempts than the schedule allows. Workers call
   * this every 3 minutes. Returns the number of notifications found.
   */
  compensate(): Promise<number> {
    return this.#compensate();
  }

  async #compensate(signal?: AbortSignal): Promise<number> {
    const maxAttempts = Math.min(this.#registry.schedule.maxAttempts, 1_000_000);
    const count = await compensate(this.database, { idleMs: 1_800_000, maxAttempts, signal });
    if (count > 0) {
      this.#registry.logger.warn({ count }, 'overdue notifications were found that no worker was sending; they are sent now');
      this.#registry.wakers.wake();
    }
    return count;
  }

  /**
   * Sends a signed test request to a URL, under the rules that hold for notifications, and returns the result. Nothing is stored. `close`
   * aborts it.
   * @throws InvalidArgumentError, CallTimeoutError, EgressDeniedError, UnknownKeyError, InvalidKeyError
   */
  async probe(url: string, options: { readonly keyRef?: string; readonly payload?: unknown } = {}): Promise<Probe> {
    const { egress, signers, keys, clock } = this.#registry;
    return probe(url, options, { egress, signers, keys, clock, delivery: this.#delivery, closing: this.#closing.signal });
  }

  /**
   * Deletes notifications that ended longer ago than `keep`, or `keepFailed`, and attempts, wake rows and leases whose owners are gone. Workers
   * call this every 10 minutes. Returns the number of deleted notifications.
   */
  purge(): Promise<number> {
    return this.#retention.purge();
  }

  /**
   * Checks that the database is supported and its tables are migrated. Workers do so when they start.
   * @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError
   */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, notifierSchema], this.#registry.logger);
  }

  /** The port that operators' tools read and act through. */
  inspect(): NotifierInspection {
    return this.#inspection;
  }

  /** Counts for gauges and dashboards. */
  stats(): Promise<NotifierStats> {
    return this.#inspection.overview();
  }

  /** Stops the workers, aborts probes, and closes the notifier's connections. The service's knex stays open. */
  async close(): Promise<void> {
    this.#closing.abort(new InvalidArgumentError('The notifier is closed.'));
    // All at once: each may wait for its requests in flight.
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    await this.#registry.wakers.close();
    await this.#registry.egress.close();
    await this.database.close();
  }

  /** Closes the notifier, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #wake(endpointId: string): void {
    this.#registry.wakers.wakeHere(endpointId);
    if (![...this.#workers].some((worker) => worker.owns(endpointId))) this.#registry.wakers.wakeElsewhere(endpointId);
  }
}

/** Creates a notifier. @throws InvalidArgumentError */
export function createNotifier(options: NotifierOptions): Notifier {
  return new Notifier(options);
}
