import {
  type Actor,
  Backoff,
  type BulkCounts,
  type BulkOptions,
  checkTables,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  durationMs,
  type EventSource,
  Events,
  every,
  guardLogger,
  InvalidArgumentError,
  LeaseTable,
  type Logger,
  Orphans,
  openDatabase,
  steps,
  type Waker,
  Wakers,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { type Ack, ack } from './attempt/ack.ts';
import { DatabaseClock } from './attempt/database-clock.ts';
import { Delivery } from './attempt/delivery.ts';
import type { PrepareOptions, StillWanted } from './attempt/prepare.ts';
import { type Probe, probe } from './attempt/probe.ts';
import { Egress, type EgressOptions } from './egress/egress.ts';
import { EndpointTable } from './endpoint/endpoint-table.ts';
import { type Endpoints, endpointsOf } from './endpoint/endpoints.ts';
import type { NotifierEvents } from './events.ts';
import { NotifierInspection, type NotifierStats } from './operate/inspect.ts';
import { type RedriveFilter, redriveEnded } from './operate/redrive.ts';
import { cancel, compensate, type ReplayOptions, replay, resend } from './operate/steer.ts';
import { KeyRing, type KeySource } from './sign/key-ring.ts';
import { checkSealingKeys, type SealingKeys } from './sign/sealed-key.ts';
import type { Signer } from './sign/signer.ts';
import { standardWebhooks } from './sign/standard-webhooks.ts';
import { type AttemptView, NotificationTable } from './table/notification-table.ts';
import { notifierSchema } from './table/schema.ts';
import { type NotifierTransaction, TriggerWriter } from './trigger/trigger-writer.ts';
import { NotifierWorker, type WorkerOptions } from './worker/worker.ts';

/** Options of {@link createNotifier}: the database, the signing keys, the schedule of attempts, and the rules for destinations. */
export interface NotifierOptions extends DatabaseOptions {
  /**
   * Returns the signing keys behind a `keyRef`: the current key first, then the keys that it replaced. Called at each trigger and at each
   * attempt. Needed unless every trigger carries a `signKey`, or `sign` is `[]`. If it throws at an attempt, or does not answer within
   * `callTimeout`, the attempt is postponed by 15 s and does not count; if it returns nothing, the attempt fails. Only the current key must be
   * there: a previous one that can't be read is left out, with a line in the log.
   */
  readonly keys?: KeySource;
  /**
   * Keys that encrypt a trigger's `signKey` in the database: 32 bytes each, by name. The first one encrypts, all of them decrypt, so keep
   * an old key until the notifications that it encrypted have ended. Default: none; a trigger with a `signKey` is refused.
   */
  readonly sealingKeys?: SealingKeys;
  /** The signatures that each request carries; several can be combined. Default `[standardWebhooks()]`; `[]` sends unsigned requests. */
  readonly sign?: readonly Signer[];
  /**
   * Decides whether a response acknowledges the notification. Default `ack.body('success')`: status 2xx and the body `success`. Any other
   * response is a failed attempt.
   */
  readonly ack?: Ack;
  /**
   * The delays between attempts. Default {@link defaultSchedule}: 3, 9, 27 and 81 s, then every 30 minutes, ten attempts in all. After the
   * last attempt the notification is EXHAUSTED; `resend` and `replay` send it again.
   */
  readonly schedule?: Backoff;
  /** The destinations that may be called, and the time limits of a request. Default: HTTPS to public addresses, 10 s per request. */
  readonly egress?: EgressOptions;
  /** Names of the headers that a trigger or an endpoint may set. Default: none; any other header is refused. */
  readonly allowHeaders?: readonly string[];
  /**
   * Called before each attempt. `false` ends the notification as CANCELLED. If it throws, or does not answer within `callTimeout`, the attempt
   * is postponed by 15 s and does not count. Default: every notification is sent.
   */
  readonly stillWanted?: StillWanted;
  /**
   * How long a promise of `keys` or `stillWanted` is waited for. Then the signal that the function got aborts; a trigger rejects with
   * CallTimeoutError, and an attempt is postponed. Default 5 s.
   */
  readonly callTimeout?: Duration;
  /** Age at which DELIVERED and CANCELLED notifications are deleted, together with their attempts. Default 30 days. */
  readonly keep?: Duration;
  /**
   * Age at which EXHAUSTED and GONE notifications are deleted, which is logged as a warning: after that, `resend` and `replay` can't send them
   * any more. `'all'` keeps them. Default 180 days, or `keep` if that is longer.
   */
  readonly keepFailed?: 'all' | Duration;
  /** Time after that deletion for which a repeated event is still recognised as a duplicate. Default 90 days. */
  readonly remember?: Duration;
  /**
   * Wakes workers in other processes after a trigger. Default: LISTEN on Postgres, the file's version on SQLite. Without a waker, workers
   * poll four times a second.
   */
  readonly waker?: Waker;
  /** Receives log lines. Default: warnings and errors go to standard error. */
  readonly logger?: Logger;
}

/** The default schedule: at once; 3, 9, 27 and 81 s after the previous attempt; then every 30 minutes plus up to 3; ten attempts in all. */
export const defaultSchedule: Backoff = steps('3s', '9s', '27s', '81s').then(every('30m').jitter(0.1).upTo(10));

/** Keeps callbacks as rows and sends them until they are acknowledged. Made by {@link createNotifier}. */
export class Notifier {
  readonly database: Database;
  readonly #options: NotifierOptions;
  readonly #logger: Logger;
  readonly #signers: readonly Signer[];
  readonly #schedule: Backoff;
  readonly #keys: KeyRing;
  readonly #egress: Egress;
  readonly #endpointTable: EndpointTable;
  readonly #endpoints: Endpoints;
  readonly #notifications: NotificationTable;
  readonly #triggers: TriggerWriter;
  readonly #clock: DatabaseClock;
  readonly #prepare: PrepareOptions;
  readonly #delivery: Delivery;
  readonly #inspection: NotifierInspection;
  readonly #events: Events<NotifierEvents>;
  readonly #wakers: Wakers;
  readonly #workers = new Set<NotifierWorker>();
  readonly #closing = new AbortController();
  readonly #orphans: readonly Orphans[];

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.database = openDatabase(options);
    this.#logger = guardLogger(options.logger);
    this.#signers = options.sign ?? [standardWebhooks()];
    this.#schedule = options.schedule ?? defaultSchedule;
    if (!(this.#schedule instanceof Backoff) && typeof (this.#schedule as Backoff).delayMs !== 'function')
      throw new InvalidArgumentError("schedule is not a Backoff; build one, as in steps('3s', '9s').then(every('30m').upTo(10)).");
    checkSealingKeys(options.sealingKeys);
    for (const age of ['keep', 'remember'] as const) durationMs(options[age] ?? '30d', age);
    if (options.keepFailed !== 'all') durationMs(options.keepFailed ?? '180d', 'keepFailed');
    this.#egress = new Egress(options.egress);
    this.#endpointTable = new EndpointTable(this.database);
    this.#notifications = new NotificationTable(this.database);
    const attempt = {
      table: 'notifier_attempt',
      key: 'notification_id',
      parentColumn: 'notification_id',
      parentTable: 'notifier_notification',
    };
    const wake = { table: 'notifier_wake', key: 'id', parentColumn: 'endpoint_id', parentTable: 'notifier_endpoint' };
    this.#orphans = [new Orphans(this.database, attempt), new Orphans(this.database, wake)];
    this.#events = new Events(this.#logger);
    this.#wakers = new Wakers({ database: this.database, channel: 'notifier', waker: options.waker, logger: this.#logger });
    this.#inspection = new NotifierInspection(this.database, () => this.#wakers.wake());
    this.#clock = new DatabaseClock(this.database);
    this.#delivery = new Delivery({
      egress: this.#egress,
      signers: this.#signers,
      ack: options.ack ?? ack.body('success'),
      schedule: this.#schedule,
      now: () => this.#clock.now(),
    });
    const { sealingKeys } = options;
    const allowHeaders = new Set((options.allowHeaders ?? []).map((name) => name.toLowerCase()));
    const callMs = durationMs(options.callTimeout ?? '5s', 'callTimeout');
    const keys = new KeyRing({ source: options.keys, signers: this.#signers, callMs, logger: this.#logger });
    this.#keys = keys;
    this.#prepare = {
      notifications: this.#notifications,
      keys,
      sealingKeys,
      signs: this.#signers.length > 0,
      stillWanted: options.stillWanted,
      callMs,
      logger: this.#logger,
    };
    this.#triggers = new TriggerWriter({
      database: this.database,
      endpoints: this.#endpointTable,
      subscriptions: this.#endpointTable.subscriptions,
      notifications: this.#notifications,
      rules: {
        egress: this.#egress,
        signers: this.#signers,
        keys,
        sealingKeys,
        allowHeaders,
      },
      wake: (endpointId) => this.#wake(endpointId),
    });
    this.#endpoints = endpointsOf({
      table: this.#endpointTable,
      egress: this.#egress,
      keys,
      allowHeaders,
      wakers: this.#wakers,
    });
  }

  /** Events of this process. */
  get events(): EventSource<NotifierEvents> {
    return this.#events;
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
    const worker = new NotifierWorker(
      {
        database: this.database,
        endpoints: this.#endpointTable,
        delivery: this.#delivery,
        prepare: this.#prepare,
        clock: this.#clock,
        check: () => this.check(),
        compensate: (signal) => this.#compensate(signal),
        purge: (signal) => this.#purge(signal),
        wakers: this.#wakers,
        events: this.#events,
        logger: this.#logger,
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
    if (done) this.#wakers.wake();
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
    if (count > 0) this.#wakers.wake();
    return count;
  }

  /**
   * Makes all ended notifications that match due now, in pages of up to 200, each in a transaction of its own with its record in the audit
   * table. Set `rate` to what the receivers can take, and look with `dryRun` first. A call that was stopped is called again. For one endpoint
   * that has recovered, {@link replay} spreads the due times instead, and returns at once.
   * @throws InvalidArgumentError
   */
  async redrive(filter: RedriveFilter, options: BulkOptions): Promise<BulkCounts> {
    return redriveEnded(this.database, filter ?? {}, options ?? {}, () => this.#wakers.wake());
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
    const maxAttempts = Math.min(this.#schedule.maxAttempts, 1_000_000);
    const count = await compensate(this.database, { idleMs: 1_800_000, maxAttempts, signal });
    if (count > 0) {
      this.#logger.warn({ count }, 'overdue notifications were found that no worker was sending; they are sent now');
      this.#wakers.wake();
    }
    return count;
  }

  /**
   * Sends a signed test request to a URL, under the rules that hold for notifications, and returns the result. Nothing is stored. `close`
   * aborts it.
   * @throws InvalidArgumentError, CallTimeoutError, EgressDeniedError, UnknownKeyError, InvalidKeyError
   */
  async probe(url: string, options: { readonly keyRef?: string; readonly payload?: unknown } = {}): Promise<Probe> {
    return probe(url, options, {
      egress: this.#egress,
      signers: this.#signers,
      keys: this.#keys,
      clock: this.#clock,
      delivery: this.#delivery,
      closing: this.#closing.signal,
    });
  }

  /**
   * Deletes notifications that ended longer ago than `keep`, or `keepFailed`, and attempts, wake rows and leases whose owners are gone. Workers
   * call this every 10 minutes. Returns the number of deleted notifications.
   */
  purge(): Promise<number> {
    return this.#purge();
  }

  /** Ends after the page in hand once `signal` has aborted. */
  async #purge(signal?: AbortSignal): Promise<number> {
    const keepMs = durationMs(this.#options.keep ?? '30d', 'keep');
    const rememberMs = durationMs(this.#options.remember ?? '90d', 'remember');
    const { keepFailed } = this.#options;
    const failedMs =
      keepFailed === undefined ? Math.max(durationMs('180d'), keepMs) : keepFailed === 'all' ? undefined : durationMs(keepFailed);
    const purged = await this.#notifications.purge(['DELIVERED', 'CANCELLED'], keepMs, rememberMs, signal);
    const failed = failedMs === undefined ? 0 : await this.#notifications.purge(['EXHAUSTED', 'GONE'], failedMs, rememberMs, signal);
    if (failed > 0)
      this.#logger.warn(
        { failed },
        "notifications that were EXHAUSTED or GONE for longer than keepFailed were deleted; they can't be sent any more",
      );
    for (const orphans of this.#orphans) await orphans.sweep(signal);
    await new LeaseTable(this.database).purge();
    return purged + failed;
  }

  /**
   * Checks that the database is supported and its tables are migrated. Workers do so when they start.
   * @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError
   */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, notifierSchema], this.#logger);
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
    for (const worker of this.#workers) await worker.stop();
    await this.#wakers.close();
    await this.#egress.close();
    await this.database.close();
  }

  /** Closes the notifier, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #wake(endpointId: string): void {
    this.#wakers.wakeHere(endpointId);
    if (![...this.#workers].some((worker) => worker.owns(endpointId))) this.#wakers.wakeElsewhere(endpointId);
  }
}

/** Creates a notifier. @throws InvalidArgumentError */
export function createNotifier(options: NotifierOptions): Notifier {
  return new Notifier(options);
}
