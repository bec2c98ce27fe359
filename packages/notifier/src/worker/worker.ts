import {
  Batcher,
  createUpkeep,
  type Database,
  defineLoop,
  type Events,
  type KindPolicy,
  type Logger,
  type Loop,
  lifecycle,
  type RunningRow,
  type Service,
  Telemetry,
  type Upkeep,
  uuidv7,
  type Verdict,
  type Verdicts,
  type Wakers,
  WorkRunner,
} from '@holdfast/core';
import { AttemptLog } from '../attempt/attempt-log.ts';
import type { DatabaseClock } from '../attempt/database-clock.ts';
import { type DeliverParts, deliver } from '../attempt/deliver.ts';
import type { Delivery } from '../attempt/delivery.ts';
import type { PrepareOptions } from '../attempt/prepare.ts';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import { settingsNote } from '../endpoint/endpoints.ts';
import { makeReady, wakeEndpoints } from '../endpoint/wake-endpoints.ts';
import type { NotifierEvents } from '../events.ts';
import type { DueRow } from '../table/due-row.ts';
import { DueReader } from './due-reader.ts';
import { EndedSessions } from './ended-sessions.ts';
import { FairTurns } from './fair-turns.ts';
import { Session } from './session.ts';
import { type WorkerOptions, type WorkerSettings, workerSettings } from './worker-options.ts';

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
  readonly #ended: EndedSessions;
  /** Endpoints that were woken while they were being given back. They can be claimed only when that is committed. */
  readonly #wokenLate = new Set<string>();
  readonly #loops: readonly Loop<unknown>[];
  readonly #route: Loop<number>;
  readonly #wakeUps: Batcher<string, boolean>;
  readonly #upkeep: Upkeep;
  readonly #settings: Loop<void>;
  readonly #own: WorkerSettings;
  readonly #lifecycle: Service;
  readonly #telemetry = new Telemetry('@holdfast/notifier');
  #unlisten: (() => void) | undefined;
  #stopping = false;

  constructor(host: WorkerHost, options: WorkerOptions) {
    this.#host = host;
    const { database, logger, wakers } = host;
    const endpoints = host.endpoints.work;
    const own = workerSettings(options);
    const { concurrency, leaseMs } = own;
    this.#own = own;
    this.#ended = new EndedSessions(host);
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
      concurrency: own.endpoints,
      batch: 1,
      keep: () => true,
      groupConcurrency: Number.MAX_SAFE_INTEGER,
      // A notification may kill its process, and each of its attempts counts; its endpoint is never given up for it.
      maxLost: 1_000_000_000,
      admit: (wanted) => wanted,
    };
    const policies = new Map(own.pools.map((pool) => [pool, policy]));
    const maxPollMs = (): number => (wakers.reliable ? 5_000 : 500);
    this.#runner = new WorkRunner({
      table: endpoints,
      owner: this.id,
      leaseMs,
      kinds: () => policies,
      run: (rows) => this.#serve(rows),
      settleHook: (settlements) => this.#ended.keepState(settlements.map(({ row }) => row)),
      onSettled: ({ row }, accepted) => {
        this.#ended.settled(row, accepted);
        if (this.#wokenLate.delete(row.id)) this.#wakeAtOnce(row.id);
      },
      stopMs: own.stopMs,
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
      periodic('notifier sweep', own.sweepMs, host.compensate),
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
    const { leaseMs, breaker, disableAfterMs, perEndpoint, endpoints } = this.#own;
    const session = new Session({
      row,
      signal: held.signal,
      leaseMs,
      reader: this.#reader,
      log: this.#log,
      turns: this.#turns,
      breaker,
      disableAfterMs,
      concurrency: perEndpoint,
      window: windowRows,
      crowded: () => this.#sessions.size >= endpoints,
      orphaned: (due, schedule) => this.#host.delivery.orphaned(due, schedule),
      logger: this.#host.logger,
    });
    this.#sessions.set(row.id, session);
    if (this.#stopping) session.stop();
    const end = await session.run();
    // Another session has the endpoint, or the worker has stopped without this one.
    if (this.#sessions.get(row.id) !== session) return new Map();
    this.#sessions.delete(row.id);
    this.#ended.add(row.id, end);
    if (end.afterMs !== undefined) this.#upkeep.scheduledIn(end.afterMs);
    const verdict: Verdict = end.afterMs === undefined ? { outcome: 'done' } : { outcome: 'snooze', afterMs: Math.ceil(end.afterMs) };
    return new Map([[row.id, verdict]]);
  }
}
