import {
  checkpoint,
  defineLoop,
  durationMs,
  type Events,
  LeaseTable,
  type Logger,
  type Loop,
  leaderLoop,
  lifecycle,
  type Service,
  settledWithin,
  Telemetry,
  uuidv7,
} from '@holdfast/core';
import type { CodeRunnerEvents } from '../events.ts';
import type { ExecutionSpec, Executor } from '../executor/executor.ts';
import type { Listening, RunQueue } from '../queue/run-queue.ts';
import type { Situation } from '../runs/decide.ts';
import type { EventLog } from '../runs/event-log.ts';
import { failDead } from '../runs/fail-undelivered.ts';
import type { Pool } from '../runs/limits.ts';
import type { RunRow } from '../runs/run.ts';
import type { RunTable } from '../runs/run-table.ts';
import type { RunWatch } from '../runs/run-watches.ts';
import { budgetScope, slotScope } from '../runs/slot-scope.ts';
import type { FileStore } from '../store/file-store.ts';
import { ClaimTurns } from './claim-turns.ts';
import { Execution } from './execution.ts';
import { leaveRun } from './leave-run.ts';
import { Membership } from './membership.ts';
import { reconcile } from './reconciler.ts';
import type { WorkerOptions } from './worker-options.ts';

export interface WorkerHost {
  readonly runs: RunTable;
  readonly log: EventLog;
  readonly executor: Executor;
  readonly store: FileStore;
  readonly queue: RunQueue;
  readonly pools: ReadonlyMap<string, Pool>;
  readonly spec: (run: RunRow) => Promise<ExecutionSpec>;
  readonly changed: (runId: string) => void;
  readonly watch: (runId: string) => RunWatch;
  /** Wakes the workers of a pool in other processes: a slot is free. */
  readonly signalOthers: (pool: string) => void;
  readonly reliable: () => boolean;
  /** Deletes what is kept for a time. Returns counts of what was deleted. */
  readonly retain: (signal?: AbortSignal) => Promise<Readonly<Record<string, number>>>;
  readonly check: () => Promise<void>;
  readonly events: Events<CodeRunnerEvents>;
  readonly logger: Logger;
}

/** How long a stop waits for the steps that are under way, such as an upload, in ms. */
const stepMs = 2_000;
/** How long a stop waits until the programs of this process are killed, in ms. */
const removeMs = 5_000;

/** Claims runs and drives each to its end. Any number of workers share the pools. */
export class RunnerWorker implements Service {
  /** Identifies this worker in the rows of its runs. */
  readonly id: string = uuidv7();
  readonly #host: WorkerHost;
  readonly #members: Membership;
  readonly #leases: LeaseTable;
  readonly #pools: readonly Pool[];
  readonly #concurrency: number;
  readonly #leaseMs: number;
  readonly #graceMs: number;
  readonly #pendingMs: number;
  readonly #stopMs: number;
  readonly #driven = new Map<string, { readonly execution: Execution; readonly done: Promise<void> }>();
  /** Runs that are driven, and runs that have ended but are not yet cleaned up. */
  readonly #finishing = new Set<Promise<void>>();
  readonly #claims: ClaimTurns;
  readonly #heartbeat: Loop<void>;
  readonly #poll: Loop<number>;
  readonly #sweep: Service;
  readonly #lifecycle: Service;
  readonly #telemetry = new Telemetry('@holdfast/code-runner');
  #executions = new AbortController();
  #listening: Listening | undefined;
  #accepting = false;

  constructor(host: WorkerHost, options: WorkerOptions) {
    this.#host = host;
    const leases = new LeaseTable(host.runs.database);
    this.#leases = leases;
    const names = options.pools ?? [...host.pools.keys()];
    this.#pools = names.map((name) => {
      const pool = host.pools.get(name);
      if (!pool) throw new RangeError(`There is no pool ${JSON.stringify(name)}; choose from ${[...host.pools.keys()].join(', ')}.`);
      return pool;
    });
    this.#concurrency = options.concurrency ?? this.#pools.reduce((sum, { slots }) => sum + slots, 0);
    this.#leaseMs = Math.max(300, durationMs(options.lease ?? '30s', 'lease'));
    this.#members = new Membership(host.runs.database, leases, this.id, this.#leaseMs);
    this.#graceMs = durationMs(options.grace ?? '10s', 'grace');
    this.#pendingMs = durationMs(options.pending ?? '10m', 'pending');
    this.#stopMs = durationMs(options.stopTimeout ?? '30s', 'stopTimeout');
    const { logger } = host;
    this.#claims = new ClaimTurns((name) => this.#claim(name), logger);
    const sweepMs = durationMs(options.sweep ?? '10s', 'sweep');
    this.#heartbeat = defineLoop({
      name: 'code-runner heartbeat',
      logger,
      runOnce: () => this.#members.beat(),
      pauseMs: () => this.#leaseMs / 3,
      maxMs: this.#leaseMs / 3,
    });
    this.#poll = defineLoop({
      name: 'code-runner queue',
      logger,
      runOnce: () => this.#claimAll(),
      pauseMs: () => (host.reliable() ? 5_000 : 500),
    });
    this.#sweep = leaderLoop({
      table: leases,
      name: 'code-runner sweep',
      owner: this.id,
      everyMs: sweepMs,
      leaseMs: Math.max(this.#leaseMs, sweepMs * 3),
      run: ({ signal }) => this.#sweepOnce(signal),
      logger,
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /**
   * Checks the database, the executor, the file store and the queue; then starts to claim runs.
   * @throws ExecutorUnavailableError, FileStoreError
   */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /**
   * Stops claiming, waits for the programs of this process up to `stopTimeout`, and ends the rest; runs whose program was not started go back to
   * the queue. Whatever does not end (an upload, an executor that does not answer) holds it up for no longer than a few seconds more.
   */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Calls `stop`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Number of runs that this worker drives. */
  get running(): number {
    return this.#driven.size;
  }

  /** Makes one pass of the sweep, which repairs what dead workers left behind. Returns counts by what was done. */
  sweep(): Promise<Readonly<Record<string, number>>> {
    return this.#sweepOnce();
  }

  async #sweepOnce(signal?: AbortSignal): Promise<Readonly<Record<string, number>>> {
    const { runs, executor, log, queue, logger } = this.#host;
    const deleted = await this.#host.retain(signal);
    await this.#leases.purge();
    const counts = await reconcile({
      runs,
      executor,
      log,
      queue,
      pools: this.#pools,
      situation: async () => {
        await this.#members.read();
        return this.#situation();
      },
      steady: () => this.#members.isSteady,
      drive: (run) => this.#drive(run),
      drives: (runId) => this.#driven.has(runId),
      changed: this.#host.changed,
      signal,
      logger,
    });
    return { ...counts, ...deleted };
  }

  async #start(): Promise<void> {
    const { runs, executor, store, queue, logger, check } = this.#host;
    await check();
    await Promise.all([executor.probe(), store.probe(), queue.probe()]);
    for (const pool of this.#pools) {
      await runs.slots.ensure(slotScope(pool.name), pool.slots);
      await runs.slots.ensure(budgetScope(pool.name), 1);
    }
    this.#executions = new AbortController();
    this.#accepting = true;
    await this.#members.beat();
    await this.#heartbeat.start();
    this.#listening = await queue.listen(
      this.#pools.map(({ name }) => name),
      {
        claimMore: async (name) => ({ room: await this.#claims.claim(name) }),
        dead: (runId, why) => failDead(runs, runId, why, this.#host),
      },
    );
    await this.#poll.start();
    await this.#sweep.start();
    logger.debug({ worker: this.id }, 'the code runner accepts runs');
  }

  async #stop(): Promise<void> {
    const { executor, logger } = this.#host;
    this.#accepting = false;
    await this.#listening?.close();
    this.#listening = undefined;
    await this.#poll.stop();
    await this.#sweep.stop();
    await this.#claims.settled();
    if (executor.scope === 'process') await settledWithin(this.#stopMs, Promise.all(this.#finishing));
    const left = [...this.#driven.values()];
    this.#executions.abort(new Error('the worker was stopped'));
    if (!(await settledWithin(stepMs, Promise.all(this.#finishing))))
      logger.warn(
        { runs: [...this.#driven.keys()], stepMs },
        'the worker has stopped though the steps of these runs had not ended; what they still write is refused once the runs have ended or another worker continues them',
      );
    if (executor.scope === 'process')
      await settledWithin(
        removeMs,
        Promise.all(left.map(({ execution: { run } }) => leaveRun(run, !this.#driven.has(run.id), this.#host))),
      );
    await this.#heartbeat.stop();
    // From now on other workers continue the runs in the cluster.
    await this.#members.leave().catch(() => undefined);
    for (const pool of this.#pools) this.#host.signalOthers(pool.name);
  }

  #situation(): Situation {
    return {
      now: this.#members.now,
      me: this.id,
      alive: this.#members.alive,
      scope: this.#host.executor.scope,
      pendingMs: this.#pendingMs,
    };
  }

  async #claimAll(): Promise<number> {
    for (const pool of this.#pools) await this.#claims.claim(pool.name);
    return this.#driven.size;
  }

  /** Claims as many runs of a pool as this worker can take. Returns whether it could take more. */
  async #claim(name: string): Promise<boolean> {
    const pool = this.#host.pools.get(name);
    // A worker whose heartbeat may have lapsed claims nothing: others may already count its runs as lost.
    if (!pool || !this.#accepting || !this.#members.isAlive) return false;
    const wanted = Math.min(this.#concurrency - this.#driven.size, pool.slots);
    if (wanted < 1) {
      this.#listening?.want(name, false);
      return false;
    }
    const { runs, free } = await this.#host.runs.claim(pool, this.id, wanted);
    await checkpoint('runner:claimed');
    for (const run of runs) {
      this.#telemetry.claimed.add(1, { kind: name });
      this.#host.events.emit('run:claimed', { runId: run.id, pool: name, waitedMs: (run.claimedAt ?? 0) - (run.submittedAt ?? 0) });
      this.#host.changed(run.id);
      this.#drive(run);
    }
    const room = free > runs.length && this.#driven.size < this.#concurrency;
    this.#listening?.want(name, room);
    return room;
  }

  #drive(run: RunRow): void {
    if (this.#driven.has(run.id)) return;
    const { events, logger, log } = this.#host;
    const execution = new Execution(
      {
        worker: this.id,
        runs: this.#host.runs,
        executor: this.#host.executor,
        store: this.#host.store,
        spec: this.#host.spec,
        situation: () => this.#situation(),
        changed: this.#host.changed,
        watch: this.#host.watch,
        ended: (one) => this.#freed(one),
        graceMs: this.#graceMs,
        logger,
      },
      run,
    );
    const done = execution
      .drive(this.#executions.signal)
      .then(
        async (how) => {
          this.#driven.delete(run.id);
          if (how === 'left') return;
          if (how === 'lost') {
            events.emit('run:lost', { runId: run.id });
            // In a cluster the object now belongs to the next worker; in this process it belongs to nobody.
            if (this.#host.executor.scope === 'process')
              await this.#host.executor.remove({ runId: run.id, attempt: run.attempt, jobUid: run.jobUid });
            return;
          }
          await log.pack(execution.run);
          this.#host.changed(run.id);
        },
        // An unexpected error; the sweep takes the run over.
        (err) => logger.error({ err, runId: run.id }, 'a worker dropped a run after an unexpected error; the sweep continues it'),
      )
      .catch((err) => logger.debug({ err, runId: run.id }, 'the log of a run could not be packed; the sweep packs it'))
      .then(() => {
        this.#driven.delete(run.id);
        this.#finishing.delete(done);
      });
    this.#driven.set(run.id, { execution, done });
    this.#finishing.add(done);
  }

  /** A run has ended and its slot is free: this worker claims at once. The rest of the run is cleaned up meanwhile. */
  #freed(run: RunRow): void {
    this.#driven.delete(run.id);
    if (run.pool !== null && this.#accepting) void this.#claims.claim(run.pool);
    if (run.pool !== null) this.#host.signalOthers(run.pool);
    const { state, reason } = run;
    this.#telemetry.settled.add(1, { kind: run.pool ?? '', outcome: reason ?? String(state) });
    this.#host.events.emit('run:ended', { runId: run.id, state, reason });
  }
}
