import {
  Batcher,
  type ClaimedRow,
  createUpkeep,
  type Database,
  type Duration,
  defineLoop,
  durationMs,
  type Events,
  type KindPolicy,
  type Logger,
  type Loop,
  lifecycle,
  type RunningRow,
  type Service,
  type SettleHook,
  Telemetry,
  type Upkeep,
  uuidv7,
  type Verdict,
  type Verdicts,
  type Wakers,
  WorkRunner,
  wholeNumber,
} from '@holdfast/core';
import { AttemptLog } from '../attempt/attempt-log.ts';
import type { DatabaseClock } from '../attempt/database-clock.ts';
import { type DeliverParts, deliver } from '../attempt/deliver.ts';
import type { Delivery } from '../attempt/delivery.ts';
import type { PrepareOptions } from '../attempt/prepare.ts';
import type { BreakerLimits } from '../endpoint/endpoint-breaker.ts';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import { settingsNote } from '../endpoint/endpoints.ts';
import { makeReady, wakeEndpoints } from '../endpoint/wake-endpoints.ts';
import type { NotifierEvents } from '../events.ts';
import type { DueRow } from '../table/due-row.ts';
import { DueReader } from './due-reader.ts';
import { FairTurns } from './fair-turns.ts';
import { Session, type SessionEnd } from './session.ts';

/** Options of a worker: its concurrency, its lease, and the endpoints that it serves. */
export interface WorkerOptions {
  /** Maximum number of concurrent requests, over all endpoints. Default 64. */
  readonly concurrency?: number;
  /** Maximum number of concurrent requests to one endpoint, unless the endpoint has a limit of its own. Default 4. */
  readonly perEndpoint?: number;
  /**
   * Maximum number of endpoints served at the same time. If more have something to send, they take turns of about a second. Default 256.
   */
  readonly endpoints?: number;
  /**
   * Duration of the lease on an endpoint, which the worker renews while it serves the endpoint. After a crash, another worker takes over
   * the endpoint when the lease has expired. Default 30 s, at least 100 ms.
   */
  readonly lease?: Duration;
  /**
   * Time for which `stop` waits for requests in flight before it aborts them. An aborted attempt is later recorded as `unknown`. Two seconds
   * later, `stop` resolves without those endpoints whose attempts still have not ended, since their database does not answer, say: it logs
   * them at `warn`, and another worker serves them when their leases have expired. Default 15 s, which is longer than a request may take.
   */
  readonly stopTimeout?: Duration;
  /** Pools whose endpoints this worker serves. Default `['']`: endpoints that were registered without a pool. */
  readonly pools?: readonly string[];
  /**
   * The endpoints' breakers: the number of consecutive failures that opens one, how long it first stays open, and how long at most. Default
   * 10, 30 s and 10 minutes. While a breaker is open, its notifications wait and lose no attempt.
   */
  readonly breaker?: { readonly failures?: number; readonly open?: Duration; readonly maxOpen?: Duration };
  /**
   * Time for which an endpoint may acknowledge nothing, although it is attempted, before it is disabled: PAUSED, with the event
   * `endpoint:disabled` and a warning. Its pending notifications wait until `endpoints.resume`; events no longer fan out to it. `'never'`
   * disables none. Default 5 days.
   */
  readonly disableAfter?: 'never' | Duration;
  /** Interval of the compensation sweep: see {@link Notifier.compensate}. Default 3 minutes. */
  readonly sweep?: Duration;
}

export interface WorkerHost {
  readonly database: Database;
  readonly endpoints: EndpointTable;
  readonly delivery: Delivery;
  readonly prepare: PrepareOptions;
  readonly clock: DatabaseClock;
  readonly check: () => Promise<void>;
  readonly compensate: (signal: AbortSignal) => Promise<number>;
  readonly purge: (signal: AbortSignal) => Promise<number>;
  readonly wakers: Wakers;
  readonly events: Events<NotifierEvents>;
  readonly logger: Logger;
}

/** Maximum number of rows in memory for one endpoint. */
const windowRows = 64;

/** Sends the notifications of the endpoints that it holds. Any number of workers share the endpoints. */
export class NotifierWorker implements Service {
  /** Identifies this worker in the `owner` column. */
  readonly id: string = uuidv7();
  readonly #host: WorkerHost;
  readonly #runner: WorkRunner;
  readonly #turns: FairTurns<Session, DueRow>;
  readonly #reader: DueReader;
  readonly #log: AttemptLog;
  readonly #sessions = new Map<string, Session>();
  readonly #ended = new Map<string, SessionEnd>();
  /** Endpoints that were woken while they were being given back. They can be claimed only when that is committed. */
  readonly #wokenLate = new Set<string>();
  readonly #loops: readonly Loop<unknown>[];
  readonly #route: Loop<number>;
  readonly #wakeUps: Batcher<string, boolean>;
  readonly #upkeep: Upkeep;
  readonly #settings: Loop<void>;
  readonly #perEndpoint: number;
  readonly #maxEndpoints: number;
  readonly #leaseMs: number;
  readonly #breaker: BreakerLimits;
  readonly #disableAfterMs: number;
  readonly #lifecycle: Service;
  readonly #telemetry = new Telemetry('@holdfast/notifier');
  #unlisten: (() => void) | undefined;
  #stopping = false;

  constructor(host: WorkerHost, options: WorkerOptions) {
    this.#host = host;
    const { database, logger, wakers } = host;
    const endpoints = host.endpoints.work;
    const concurrency = wholeNumber('concurrency', options.concurrency ?? 64);
    this.#perEndpoint = wholeNumber('perEndpoint', options.perEndpoint ?? 4);
    this.#maxEndpoints = wholeNumber('endpoints', options.endpoints ?? 256);
    this.#breaker = {
      failures: wholeNumber('breaker.failures', options.breaker?.failures ?? 10),
      openMs: durationMs(options.breaker?.open ?? '30s', 'breaker.open'),
      maxOpenMs: durationMs(options.breaker?.maxOpen ?? '10m', 'breaker.maxOpen'),
    };
    this.#disableAfterMs =
      options.disableAfter === 'never' ? Number.POSITIVE_INFINITY : durationMs(options.disableAfter ?? '5d', 'disableAfter');
    const leaseMs = Math.max(100, durationMs(options.lease ?? '30s', 'lease'));
    this.#leaseMs = leaseMs;
    this.#log = new AttemptLog(database);
    this.#reader = new DueReader(database, (now) => host.clock.set(now));
    this.#turns = new FairTurns({
      concurrency,
      begin: (session, row, done) => void deliver(row, session, parts, done),
    });
    const parts: DeliverParts = {
      prepare: host.prepare,
      delivery: host.delivery,
      log: this.#log,
      body: (id) => this.#reader.body(id),
      wire: this.#turns,
      events: host.events,
      telemetry: this.#telemetry,
      logger,
    };
    const policy: KindPolicy = {
      concurrency: this.#maxEndpoints,
      batch: 1,
      keep: () => true,
      groupConcurrency: Number.MAX_SAFE_INTEGER,
      // A notification may kill its process, and each of its attempts counts; its endpoint is never given up for it.
      maxLost: 1_000_000_000,
      admit: (wanted) => wanted,
    };
    const policies = new Map((options.pools ?? ['']).map((pool) => [pool, policy]));
    const maxPollMs = (): number => (wakers.reliable ? 5_000 : 500);
    this.#runner = new WorkRunner({
      table: endpoints,
      owner: this.id,
      leaseMs,
      kinds: () => policies,
      run: (rows) => this.#serve(rows),
      settleHook: (settlements) => this.#keepState(settlements.map(({ row }) => row)),
      onSettled: ({ row }, accepted) => {
        if (accepted) this.#announceDisabled(row);
        this.#ended.delete(row.id);
        if (this.#wokenLate.delete(row.id)) this.#wakeAtOnce(row.id);
      },
      stopMs: durationMs(options.stopTimeout ?? '15s', 'stopTimeout'),
      maxPollMs,
      logger,
      telemetry: this.#telemetry,
    });
    this.#wakeUps = new Batcher({
      run: async (ids) => {
        const unique = [...new Set(ids)].sort();
        if ((await makeReady(database, database, endpoints, unique)) > 0)
          for (const pool of policies.keys()) for (const id of unique) this.#runner.hint(pool, id);
        return ids.map(() => true);
      },
    });
    this.#route = defineLoop({
      name: 'notifier route',
      logger,
      runOnce: async () => {
        const woken = await wakeEndpoints(database, endpoints);
        if (woken.length > 0) this.#runner.wake();
        return woken.length;
      },
      busy: (woken) => woken > 0,
      pauseMs: () => (wakers.reliable ? 1_000 : 250),
    });
    this.#upkeep = createUpkeep({
      table: endpoints,
      prefix: 'notifier ',
      logger,
      leaseMs,
      minPollMs: 2,
      maxPollMs: () => 500,
      onPromoted: (count) => {
        if (count > 0) this.#runner.wake();
      },
      rescue: async (backMs, signal) => {
        const { rescued, dead } = await endpoints.rescue({ maxLost: () => policy.maxLost, adoptAfterMs: 600_000, backMs, signal });
        if (rescued > 0) this.#runner.wake();
        return rescued + dead;
      },
    });
    this.#settings = defineLoop({
      name: 'notifier settings',
      logger,
      runOnce: async () => {
        if (this.#sessions.size === 0) return;
        const settings = await host.endpoints.settings([...this.#sessions.keys()]);
        for (const [id, set] of settings) this.#sessions.get(id)?.apply(set);
      },
      pauseMs: () => 500,
    });
    const periodic = (name: string, ms: number, run: (signal: AbortSignal) => Promise<unknown>): Loop<unknown> =>
      defineLoop({ name, logger, runOnce: ({ signal }) => run(signal), pauseMs: () => ms });
    this.#loops = [
      this.#route,
      this.#upkeep.promote,
      ...this.#upkeep.others,
      this.#settings,
      periodic('notifier sweep', durationMs(options.sweep ?? '3m', 'sweep'), host.compensate),
      periodic('notifier purge', 600_000, host.purge),
    ];
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** Number of endpoints that this worker holds at present. */
  get serving(): number {
    return this.#sessions.size;
  }

  /** Returns whether this worker holds an endpoint. If so, no other process needs to be woken for it. */
  owns(endpointId: string): boolean {
    return !this.#stopping && this.#sessions.has(endpointId);
  }

  /** Starts serving endpoints. @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Starts no further request, waits for those in flight, up to `stopTimeout`, and gives the endpoints back. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops the worker, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  async #start(): Promise<void> {
    await this.#host.check();
    await this.#host.clock.read();
    this.#stopping = false;
    this.#unlisten = this.#host.wakers.listen((notes) => {
      for (const note of notes) {
        if (note === settingsNote) {
          this.#settings.wake();
          continue;
        }
        if (this.#sessions.get(note)?.wake()) continue;
        if (this.#sessions.has(note) || this.#ended.has(note)) this.#wokenLate.add(note);
        else this.#wakeAtOnce(note);
      }
      if (notes.length > 0) return;
      this.#route.wake();
      this.#upkeep.promote.wake();
    });
    await this.#runner.start();
    for (const loop of this.#loops) await loop.start();
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    this.#unlisten?.();
    // At once: a sweep may take long, and requests in flight must be aborted in time.
    const stopped = Promise.all([this.#runner.stop(), ...this.#loops.map((loop) => loop.stop())]);
    for (const session of this.#sessions.values()) session.stop();
    await stopped;
    // Those that the runner has left behind.
    this.#sessions.clear();
  }

  /** Wakes a sleeping endpoint that has something to send. The row in notifier_wake wakes it on the next pass if this fails. */
  #wakeAtOnce(endpointId: string): void {
    if (this.#stopping) return;
    this.#wakeUps
      .call(endpointId)
      .catch((err) => this.#host.logger.debug({ err }, 'an endpoint was not woken at once; its wake row wakes it on the next pass'));
  }

  async #serve([held]: readonly RunningRow[]): Promise<Verdicts> {
    if (!held) return new Map();
    const { row } = held;
    const session = new Session({
      row,
      signal: held.signal,
      leaseMs: this.#leaseMs,
      reader: this.#reader,
      log: this.#log,
      turns: this.#turns,
      breaker: this.#breaker,
      disableAfterMs: this.#disableAfterMs,
      concurrency: this.#perEndpoint,
      window: windowRows,
      crowded: () => this.#sessions.size >= this.#maxEndpoints,
      orphaned: (due, schedule) => this.#host.delivery.orphaned(due, schedule),
      logger: this.#host.logger,
    });
    this.#sessions.set(row.id, session);
    if (this.#stopping) session.stop();
    const end = await session.run();
    // Another session has the endpoint, or the worker has stopped without this one.
    if (this.#sessions.get(row.id) !== session) return new Map();
    this.#sessions.delete(row.id);
    if (end.openMs !== undefined) this.#host.events.emit('endpoint:opened', { endpointId: row.id, openMs: end.openMs });
    this.#ended.set(row.id, end);
    if (end.afterMs !== undefined) this.#upkeep.scheduledIn(end.afterMs);
    const verdict: Verdict = end.afterMs === undefined ? { outcome: 'done' } : { outcome: 'snooze', afterMs: Math.ceil(end.afterMs) };
    return new Map([[row.id, verdict]]);
  }

  #announceDisabled({ id, payload }: ClaimedRow): void {
    const end = this.#ended.get(id);
    if (!end?.disable || end.failingMs === undefined) return;
    const { origin, tenant } = payload;
    const failingMs = Math.round(end.failingMs);
    this.#host.logger.warn(
      { endpoint: id, tenant, origin, failingMs },
      'an endpoint was disabled, since it has acknowledged nothing for disableAfter; resume it once the receiver is fixed',
    );
    this.#host.events.emit('endpoint:disabled', { endpointId: id, failingMs });
  }

  /** Stores the state in which sessions ended, in the transaction that gives their endpoints back. */
  #keepState(rows: readonly ClaimedRow[]): SettleHook {
    return async (sql, settled) => {
      const ids = new Set(settled.map(({ row }) => row.id));
      const ends = rows.flatMap(({ id }) => {
        const end = ids.has(id) ? this.#ended.get(id) : undefined;
        return end ? [{ id, ...end }] : [];
      });
      if (ends.length > 0) await this.#host.endpoints.keepState(sql, ends);
    };
  }
}
