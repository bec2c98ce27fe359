import {
  type Actor,
  Backoff,
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  defaultLogger,
  durationMs,
  type EventSource,
  Events,
  every,
  InvalidArgumentError,
  type Logger,
  openDatabase,
  steps,
  type Waker,
  Wakers,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { type Ack, ack } from './attempt/ack.ts';
import { DatabaseClock } from './attempt/database-clock.ts';
import { Delivery } from './attempt/delivery.ts';
import type { PrepareOptions } from './attempt/prepare.ts';
import { type Probe, probe } from './attempt/probe.ts';
import { Egress, type EgressOptions } from './egress/egress.ts';
import { EndpointTable } from './endpoint/endpoint-table.ts';
import { type Endpoints, endpointsOf } from './endpoint/endpoints.ts';
import type { NotifierEvents } from './events.ts';
import { NotifierInspection, type NotifierStats } from './operate/inspect.ts';
import { compensate, type ReplayOptions, replay, resend } from './operate/steer.ts';
import type { KeySource } from './sign/key-ring.ts';
import { checkSealingKeys, type SealingKeys } from './sign/sealed-key.ts';
import type { Signer } from './sign/signer.ts';
import { standardWebhooks } from './sign/standard-webhooks.ts';
import { type AttemptView, NotificationTable } from './table/notification-table.ts';
import { notifierSchema } from './table/schema.ts';
import { type NotifierTransaction, TriggerWriter } from './trigger/trigger-writer.ts';
import { NotifierWorker, type WorkerOptions } from './worker/worker.ts';

/** Where notifications are kept, how they are signed, and when they are sent again. */
export interface NotifierOptions extends DatabaseOptions {
  /** Keys by reference: the current one first, then those that it replaced. */
  readonly keys?: KeySource;
  /** Keys under which a `signKey` that comes with a trigger is kept: 32 bytes each, by name; the first seals, all open. */
  readonly sealingKeys?: SealingKeys;
  /** How requests are signed; several ways go along. Default `[standardWebhooks()]`; `[]` sends unsigned. */
  readonly sign?: readonly Signer[];
  /** What acknowledges. Default `ack.body('success')`. */
  readonly ack?: Ack;
  /**
   * When failed attempts are made again. Default {@link defaultSchedule}: after 3, 9, 27 and 81 s, then every 30 minutes, ten attempts
   * in all.
   */
  readonly schedule?: Backoff;
  /** What may be called, and for how long. */
  readonly egress?: EgressOptions;
  /** Names of headers that triggers may set. Default none. */
  readonly allowHeaders?: readonly string[];
  /** Asked before each attempt: `false` ends the notification as CANCELLED. What it throws postpones the attempt. */
  readonly stillWanted?: (subjectId: string, event: { readonly tenant: string; readonly status: string }) => boolean | Promise<boolean>;
  /** How long ended notifications are kept, with their attempts. Default 30 days. */
  readonly keep?: Duration;
  /** How long after that an event is still known as a duplicate. Default 90 days. */
  readonly remember?: Duration;
  /** Tells workers in other processes. Default: LISTEN on Postgres, the file's version on SQLite; else workers look four times a second. */
  readonly waker?: Waker;
  readonly logger?: Logger;
}

/** When attempts are made by default: at once; 3, 9, 27, 81 s after the one before; every 30 minutes (and up to 3 more); ten in all. */
export const defaultSchedule: Backoff = steps('3s', '9s', '27s', '81s').then(every('30m').jitter(0.1).upTo(10));

/** Callbacks that are kept as rows until they are acknowledged. */
export class Notifier {
  readonly database: Database;
  readonly #options: NotifierOptions;
  readonly #logger: Logger;
  readonly #signers: readonly Signer[];
  readonly #schedule: Backoff;
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

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.database = openDatabase(options);
    this.#logger = options.logger ?? defaultLogger;
    this.#signers = options.sign ?? [standardWebhooks()];
    this.#schedule = options.schedule ?? defaultSchedule;
    if (!(this.#schedule instanceof Backoff) && typeof (this.#schedule as Backoff).delayMs !== 'function')
      throw new InvalidArgumentError("schedule is no schedule; build one, as in steps('3s', '9s').then(every('30m').upTo(10)).");
    checkSealingKeys(options.sealingKeys);
    for (const age of ['keep', 'remember'] as const) durationMs(options[age] ?? '30d', age);
    this.#egress = new Egress(options.egress);
    this.#endpointTable = new EndpointTable(this.database);
    this.#notifications = new NotificationTable(this.database);
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
    const { keys, sealingKeys } = options;
    this.#prepare = {
      notifications: this.#notifications,
      keys,
      sealingKeys,
      signs: this.#signers.length > 0,
      stillWanted: options.stillWanted,
      logger: this.#logger,
    };
    this.#triggers = new TriggerWriter({
      database: this.database,
      endpoints: this.#endpointTable,
      notifications: this.#notifications,
      rules: {
        egress: this.#egress,
        signers: this.#signers,
        keys,
        sealingKeys,
        allowHeaders: new Set((options.allowHeaders ?? []).map((name) => name.toLowerCase())),
      },
      wake: (endpointId) => this.#wake(endpointId),
    });
    this.#endpoints = endpointsOf({
      table: this.#endpointTable,
      egress: this.#egress,
      signers: this.#signers,
      keys,
      wakers: this.#wakers,
    });
  }

  get events(): EventSource<NotifierEvents> {
    return this.#events;
  }

  /**
   * Triggers that count if and only if the ROOT transaction of `trx` commits.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): NotifierTransaction {
    return this.#triggers.in(trx);
  }

  /** Triggers in transactions of their own. */
  now(): NotifierTransaction {
    return this.#triggers.now();
  }

  /** A worker: start it with `await worker.start()`. As many as you like, in as many processes, share the endpoints. */
  worker(options: WorkerOptions = {}): NotifierWorker {
    const worker = new NotifierWorker(
      {
        database: this.database,
        endpoints: this.#endpointTable,
        delivery: this.#delivery,
        prepare: this.#prepare,
        clock: this.#clock,
        check: () => this.check(),
        compensate: () => this.compensate(),
        purge: () => this.purge(),
        wakers: this.#wakers,
        events: this.#events,
        logger: this.#logger,
      },
      options,
    );
    this.#workers.add(worker);
    return worker;
  }

  get endpoints(): Endpoints {
    return this.#endpoints;
  }

  /** Every attempt of a notification, the first first. */
  attempts(id: string): Promise<readonly AttemptView[]> {
    return this.#inspection.attempts(id);
  }

  /** Sends a notification once more, now, whatever its state. Returns whether there is one. */
  async resend(id: string, by: Actor): Promise<boolean> {
    const done = await resend(this.database, id, by);
    if (done) this.#wakers.wake();
    return done;
  }

  /** Sends notifications of an endpoint again: see {@link ReplayOptions}. Returns how many. */
  async replay(options: ReplayOptions, by: Actor): Promise<number> {
    const count = await replay(this.database, options, by);
    if (count > 0) this.#wakers.wake();
    return count;
  }

  /**
   * Finds notifications that are unacknowledged, were last notified over 30 minutes ago, have had fewer attempts than the schedule
   * has, and are overdue by it. Workers do it every 3 minutes. Returns how many there were.
   */
  async compensate(): Promise<number> {
    const maxAttempts = Math.min(this.#schedule.maxAttempts, 1_000_000);
    const count = await compensate(this.database, { idleMs: 1_800_000, maxAttempts });
    if (count > 0) {
      this.#logger.warn({ count }, 'notifications were overdue without anybody at work on them; they are sent now');
      this.#wakers.wake();
    }
    return count;
  }

  /** Sends a signed test to a URL, the way that notifications go, and says what came back. Nothing is stored. */
  async probe(url: string, options: { readonly keyRef?: string; readonly payload?: unknown } = {}): Promise<Probe> {
    return probe(url, options, {
      egress: this.#egress,
      signers: this.#signers,
      keys: this.#options.keys,
      clock: this.#clock,
      delivery: this.#delivery,
    });
  }

  /** Deletes what ended longer ago than `keep`. Workers do it every 10 minutes. Returns how many. */
  purge(): Promise<number> {
    return this.#notifications.purge(this.#options.keep ?? '30d', this.#options.remember ?? '90d');
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    const { warnings } = await this.database.describe();
    for (const warning of warnings) this.#logger.warn({}, warning);
    const newer = await checkMigrated(this.database, [coreSchema, notifierSchema]);
    if (newer.length > 0)
      this.#logger.warn({ newer }, 'the tables were migrated by a newer version; this one goes on, since migrations only add');
  }

  /** For operators' tools. */
  inspect(): NotifierInspection {
    return this.#inspection;
  }

  /** Figures for gauges and dashboards. */
  stats(): Promise<NotifierStats> {
    return this.#inspection.overview();
  }

  /** Stops workers and ends the connections. The service's knex stays open. */
  async close(): Promise<void> {
    for (const worker of this.#workers) await worker.stop();
    await this.#wakers.close();
    await this.#egress.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
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
