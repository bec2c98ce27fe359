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
  monotonicMs,
  openDatabase,
  requireTransaction,
  type SqlRunner,
  steps,
  transactionTrace,
  uuidv7,
  type Waker,
  Wakers,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { type Ack, ack } from './ack.ts';
import { Egress, type EgressOptions } from './egress/egress.ts';
import { EndpointTable, type EndpointView } from './endpoint-table.ts';
import type { NotifierEvents } from './events.ts';
import { type NewNotification, newNotification, type Trigger } from './new-notification.ts';
import { type AttemptView, NotificationTable, type Triggered } from './notification-table.ts';
import { NotifierInspection, type NotifierStats } from './operate/inspect.ts';
import { compensate, type ReplayOptions, replay, resend } from './operate/steer.ts';
import type { Judgement } from './outcome.ts';
import { notifierSchema } from './schema.ts';
import { checkKeys, type KeySource, keysOf } from './sign/key-ring.ts';
import { checkSealingKeys, type SealingKeys } from './sign/sealed-key.ts';
import type { Signer } from './sign/signer.ts';
import { standardWebhooks } from './sign/standard-webhooks.ts';
import { Delivery } from './worker/delivery.ts';
import type { DueRow } from './worker/due-reader.ts';
import { prepare } from './worker/prepare.ts';
import { NotifierWorker, settingsNote, type WorkerOptions } from './worker/worker.ts';

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

/** Triggers that commit with a transaction. */
export interface NotifierTransaction {
  /**
   * An event that must be heard of. The same event (tenant, subject, status, sequence) again is a no-op that returns the first.
   * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError
   */
  trigger(event: Trigger): Promise<Triggered>;
  /**
   * The same of many events, in a handful of statements. Returns what came of each, in order. None is written if one of them is refused.
   * @throws as {@link trigger}
   */
  triggerMany(events: readonly Trigger[]): Promise<readonly Triggered[]>;
}

/** What a probe found. */
export type Probe = Omit<Judgement, 'retryAfterMs'> & { readonly trigger: 'test' };

/** When attempts are made by default: at once; 3, 9, 27, 81 s after the one before; every 30 minutes (and up to 3 more); ten in all. */
export const defaultSchedule: Backoff = steps('3s', '9s', '27s', '81s').then(every('30m').jitter(0.1).upTo(10));

/**
 * Steers endpoints. Workers that serve one hear of a change at once, or within half a second. Each is a tenant and an origin
 * (`https://example.com`), made with its first notification.
 */
export interface Endpoints {
  /** Endpoints in the order of their ids. */
  list(query?: { readonly tenant?: string; readonly after?: string; readonly limit?: number }): Promise<readonly EndpointView[]>;
  /** One endpoint, with its state, limits and figures. */
  get(id: string): Promise<EndpointView | undefined>;
  /** Makes the endpoint of a URL, or finds it. With `keyRef`, that is what its notifications are signed with unless they say otherwise. */
  register(endpoint: { readonly tenant?: string; readonly url: string; readonly keyRef?: string; readonly pool?: string }): Promise<string>;
  /** Sends nothing to it until it is resumed; notifications wait. Returns whether it is there. */
  pause(id: string, by: Actor): Promise<boolean>;
  /** Sends again. Returns whether it is there. */
  resume(id: string, by: Actor): Promise<boolean>;
  /** Limits its requests; `null` takes a limit away. Returns whether it is there. */
  limit(id: string, limits: { readonly concurrency?: number | null; readonly ratePerSecond?: number | null }, by: Actor): Promise<boolean>;
  /** Signs with another key from now on, and for `overlap` (default 24 hours) with the one before as well. */
  rotate(id: string, to: { readonly keyRef: string; readonly overlap?: Duration }, by: Actor): Promise<boolean>;
}

interface Addressed {
  readonly one: NewNotification;
  readonly endpointId: string;
}

/** Callbacks that are kept as rows until they are acknowledged. */
export class Notifier {
  readonly database: Database;
  readonly #options: NotifierOptions;
  readonly #logger: Logger;
  readonly #signers: readonly Signer[];
  readonly #schedule: Backoff;
  readonly #ack: Ack;
  readonly #egress: Egress;
  readonly #allowHeaders: ReadonlySet<string>;
  readonly #endpoints: EndpointTable;
  readonly #notifications: NotificationTable;
  readonly #delivery: Delivery;
  readonly #inspection: NotifierInspection;
  readonly #events: Events<NotifierEvents>;
  readonly #wakers: Wakers;
  readonly #workers = new Set<NotifierWorker>();
  /** The database's clock less the monotonic one, in ms. */
  #clockOffsetMs: number | undefined;

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.database = openDatabase(options);
    this.#logger = options.logger ?? defaultLogger;
    this.#signers = options.sign ?? [standardWebhooks()];
    this.#schedule = options.schedule ?? defaultSchedule;
    if (!(this.#schedule instanceof Backoff) && typeof (this.#schedule as Backoff).delayMs !== 'function')
      throw new InvalidArgumentError("schedule is no schedule; build one, as in steps('3s', '9s').then(every('30m').upTo(10)).");
    this.#ack = options.ack ?? ack.body('success');
    checkSealingKeys(options.sealingKeys);
    this.#allowHeaders = new Set((options.allowHeaders ?? []).map((name) => name.toLowerCase()));
    for (const age of ['keep', 'remember'] as const) durationMs(options[age] ?? '30d', age);
    this.#egress = new Egress(options.egress);
    this.#endpoints = new EndpointTable(this.database);
    this.#notifications = new NotificationTable(this.database);
    this.#events = new Events(this.#logger);
    this.#wakers = new Wakers({ database: this.database, channel: 'notifier', waker: options.waker, logger: this.#logger });
    this.#inspection = new NotifierInspection(this.database, () => this.#wakers.wake());
    this.#delivery = new Delivery({
      egress: this.#egress,
      signers: this.#signers,
      ack: this.#ack,
      schedule: this.#schedule,
      now: () => monotonicMs() + (this.#clockOffsetMs ?? 0),
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
    requireTransaction(trx, 'in(trx)');
    return {
      trigger: async (event) => {
        const sql = await this.database.within(trx, 'trigger');
        const checked = await this.#check(event, sql);
        const endpointId = await this.#endpoints.idOf(sql, checked.tenant, checked.origin);
        const triggered = await this.#notifications.insert(sql, endpointId, checked);
        if (!triggered.duplicate) (await transactionTrace(trx)).add(() => this.#wake(endpointId));
        return triggered;
      },
      triggerMany: async (events) => {
        const sql = await this.database.within(trx, 'triggerMany');
        const items = await this.#checkMany(events, sql);
        const triggered = await this.#insertMany(sql, items);
        (await transactionTrace(trx)).add(() => this.#wakeNew(items, triggered));
        return triggered;
      },
    };
  }

  /** Triggers in transactions of their own. */
  now(): NotifierTransaction {
    return {
      trigger: async (event) => {
        const checked = await this.#check(event, undefined);
        // Before the transaction: within it, it would need a second connection of the same pool.
        const endpointId = await this.#endpoints.idOf(undefined, checked.tenant, checked.origin);
        const triggered = await this.database.transaction((sql) => this.#notifications.insert(sql, endpointId, checked));
        if (!triggered.duplicate) this.#wake(endpointId);
        return triggered;
      },
      triggerMany: async (events) => {
        const items = await this.#checkMany(events, undefined);
        const triggered = await this.database.transaction((sql) => this.#insertMany(sql, items));
        this.#wakeNew(items, triggered);
        return triggered;
      },
    };
  }

  /** A worker: start it with `await worker.start()`. As many as you like, in as many processes, share the endpoints. */
  worker(options: WorkerOptions = {}): NotifierWorker {
    const worker = new NotifierWorker(
      {
        database: this.database,
        endpoints: this.#endpoints,
        delivery: this.#delivery,
        prepare: (row: DueRow, keyRefs) =>
          prepare(row, keyRefs, {
            notifications: this.#notifications,
            keys: this.#options.keys,
            sealingKeys: this.#options.sealingKeys,
            signs: this.#signers.length > 0,
            stillWanted: this.#options.stillWanted,
            logger: this.#logger,
          }),
        seenNow: (now) => {
          this.#clockOffsetMs = now - monotonicMs();
        },
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
    const table = this.#endpoints;
    const changed = async (done: Promise<boolean>): Promise<boolean> => {
      const was = await done;
      if (was) this.#wakers.wake(settingsNote);
      return was;
    };
    return {
      list: (query) => table.list(query),
      get: (id) => table.get(id),
      register: async ({ tenant = '', url, keyRef, pool }) => {
        const { origin } = this.#egress.check(url);
        if (keyRef !== undefined) checkKeys(this.#signers, await keysOf(this.#options.keys, keyRef));
        return table.register(tenant, origin, { keyRef, pool });
      },
      pause: (id, by) => changed(table.pause(id, by)),
      resume: async (id, by) => {
        const done = await table.resume(id, by);
        if (done) this.#wakers.wake();
        return done;
      },
      limit: (id, limits, by) => changed(table.limit(id, limits, by)),
      rotate: async (id, { keyRef, overlap }, by) => {
        checkKeys(this.#signers, await keysOf(this.#options.keys, keyRef));
        return changed(table.rotate(id, keyRef, durationMs(overlap ?? '24h', 'overlap'), by));
      },
    };
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
    const checked = this.#egress.check(url);
    if (this.#signers.length > 0 && options.keyRef === undefined)
      throw new InvalidArgumentError('probe signs as notifications do; pass keyRef.');
    const keys = options.keyRef === undefined ? [] : await keysOf(this.#options.keys, options.keyRef);
    checkKeys(this.#signers, keys);
    this.#clockOffsetMs ??= (await this.database.now()) - monotonicMs();
    let payload: unknown = options.payload ?? { type: 'test' };
    for (const signer of this.#signers) if (signer.seal) payload = signer.seal(payload, keys[0] ?? '');
    const parcel = {
      url: checked.href,
      webhookId: `test_${uuidv7().replaceAll('-', '')}`,
      contentType: 'application/json',
      headers: null,
    };
    const judgement = await this.#delivery.send(parcel, JSON.stringify(payload), keys);
    if (!judgement) throw new InvalidArgumentError('the probe was given up');
    const { retryAfterMs: _, ...found } = judgement;
    return { ...found, trigger: 'test' };
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

  #check(event: Trigger, x: SqlRunner | undefined): Promise<NewNotification> {
    return newNotification(event, {
      egress: this.#egress,
      signers: this.#signers,
      keys: this.#options.keys,
      sealingKeys: this.#options.sealingKeys,
      allowHeaders: this.#allowHeaders,
      endpointKey: (tenant, origin) => this.#endpoints.keyRef(x, tenant, origin),
    });
  }

  async #checkMany(events: readonly Trigger[], x: SqlRunner | undefined): Promise<readonly Addressed[]> {
    if (!Array.isArray(events)) throw new InvalidArgumentError('triggerMany takes an array of events.');
    const items: Addressed[] = [];
    for (const event of events) {
      const one = await this.#check(event, x);
      items.push({ one, endpointId: await this.#endpoints.idOf(x, one.tenant, one.origin) });
    }
    return items;
  }

  /** Those that supersede others one by one, since each looks at what is there of its subject. */
  async #insertMany(sql: SqlRunner, items: readonly Addressed[]): Promise<readonly Triggered[]> {
    const triggered: Triggered[] = [];
    if (items.some(({ one }) => one.supersede)) {
      for (const { one, endpointId } of items) triggered.push(await this.#notifications.insert(sql, endpointId, one));
      return triggered;
    }
    for (let from = 0; from < items.length; from += 1_000)
      triggered.push(...(await this.#notifications.insertMany(sql, items.slice(from, from + 1_000))));
    return triggered;
  }

  #wakeNew(items: readonly Addressed[], triggered: readonly Triggered[]): void {
    for (const id of new Set(items.flatMap(({ endpointId }, i) => (triggered[i]?.duplicate ? [] : [endpointId])))) this.#wake(id);
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
