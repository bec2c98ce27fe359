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
  Telemetry,
  uuidv7,
} from '@holdfast/core';
import type { CodeRunnerEvents } from '../events.ts';
import type { ExecutionSpec, Executor } from '../executor/executor.ts';
import type { Listening, RunQueue } from '../queue/run-queue.ts';
import { type Situation, terminated } from '../runs/decide.ts';
import type { EventLog } from '../runs/event-log.ts';
import { failDead } from '../runs/fail-undelivered.ts';
import type { Pool } from '../runs/limits.ts';
import type { RunRow } from '../runs/run.ts';
import type { RunWatch } from '../runs/run-news.ts';
import type { RunTable } from '../runs/run-table.ts';
import { budgetScope, slotScope } from '../runs/slot-scope.ts';
import type { Ending } from '../runs/states.ts';
import type { FileStore } from '../store/file-store.ts';
import { Execution } from './execution.ts';
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
  /** Tells workers of other processes that there is room in a pool. */
  readonly ringOthers: (pool: string) => void;
  readonly reliable: () => boolean;
  readonly check: () => Promise<void>;
  readonly events: Events<CodeRunnerEvents>;
  readonly logger: Logger;
}

/** Takes runs out of the queue and drives each to its end. Any number of workers share the pools. */
export class RunnerWorker implements Service {
  /** Names this worker in the rows of its runs. */
  readonly id: string = uuidv7();
  readonly #host: WorkerHost;
  readonly #members: Membership;
  readonly #pools: readonly Pool[];
  readonly #concurrency: number;
  readonly #leaseMs: number;
  readonly #graceMs: number;
  readonly #pendingMs: number;
  readonly #stopMs: number;
  readonly #driven = new Map<string, { readonly execution: Execution; readonly done: Promise<void> }>();
  /** Runs in hand, and those that have ended but are not yet tidied away. */
  readonly #finishing = new Set<Promise<void>>();
  readonly #looking = new Map<string, Promise<boolean>>();
  readonly #again = new Set<string>();
  readonly #heart: Loop<void>;
  readonly #poll: Loop<number>;
  readonly #sweep: Service;
  readonly #lifecycle: Service;
  readonly #telemetry = new Telemetry('@holdfast/code-runner');
  #executions = new AbortController();
  #listening: Listening | undefined;
  #taking = false;

  constructor(host: WorkerHost, options: WorkerOptions) {
    this.#host = host;
    const leases = new LeaseTable(host.runs.database);
    const names = options.pools ?? [...host.pools.keys()];
    this.#pools = names.map((name) => {
      const pool = host.pools.get(name);
      if (!pool) throw new RangeError(`There is no pool ${JSON.stringify(name)}; there are ${[...host.pools.keys()].join(', ')}.`);
      return pool;
    });
    this.#concurrency = options.concurrency ?? this.#pools.reduce((sum, { slots }) => sum + slots, 0);
    this.#leaseMs = Math.max(300, durationMs(options.lease ?? '30s', 'lease'));
    this.#members = new Membership(host.runs.database, leases, this.id, this.#leaseMs);
    this.#graceMs = durationMs(options.grace ?? '10s', 'grace');
    this.#pendingMs = durationMs(options.pending ?? '10m', 'pending');
    this.#stopMs = durationMs(options.stopAfter ?? '30s', 'stopAfter');
    const { logger } = host;
    const sweepMs = durationMs(options.sweep ?? '10s', 'sweep');
    this.#heart = defineLoop({
      name: 'code-runner heartbeat',
      logger,
      runOnce: () => this.#members.beat(),
      pauseMs: () => this.#leaseMs / 3,
      maxMs: this.#leaseMs / 3,
    });
    this.#poll = defineLoop({
      name: 'code-runner queue',
      logger,
      runOnce: () => this.#lookAll(),
      pauseMs: () => (host.reliable() ? 5_000 : 500),
    });
    this.#sweep = leaderLoop({
      table: leases,
      name: 'code-runner sweep',
      owner: this.id,
      everyMs: sweepMs,
      leaseMs: Math.max(this.#leaseMs, sweepMs * 3),
      run: () => this.sweep(),
      logger,
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** Checks the database, the sandbox or cluster, and the file store; then takes runs. @throws ExecutorUnavailableError, FileStoreError */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Runs in hand. */
  get running(): number {
    return this.#driven.size;
  }

  /** One pass of the sweep: what others left behind. Returns what was done. */
  async sweep(): Promise<Readonly<Record<string, number>>> {
    const { runs, executor, log, queue, logger } = this.#host;
    return reconcile({
      runs,
      executor,
      log,
      queue,
      pools: this.#pools,
      situation: async () => {
        await this.#members.look();
        return this.#situation();
      },
      steady: () => this.#members.isSteady,
      drive: (run) => this.#drive(run),
      drives: (runId) => this.#driven.has(runId),
      changed: this.#host.changed,
      logger,
    });
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
    this.#taking = true;
    await this.#members.beat();
    await this.#heart.start();
    this.#listening = await queue.listen(
      this.#pools.map(({ name }) => name),
      {
        look: async (name) => ({ room: await this.#look(name) }),
        dead: (runId, why) => failDead(runs, runId, why, this.#host),
      },
    );
    await this.#poll.start();
    await this.#sweep.start();
    logger.debug({ worker: this.id }, 'the code runner takes runs');
  }

  async #stop(): Promise<void> {
    const { executor, runs, logger } = this.#host;
    this.#taking = false;
    await this.#listening?.close();
    this.#listening = undefined;
    await this.#poll.stop();
    await this.#sweep.stop();
    await Promise.all(this.#looking.values());
    if (executor.scope === 'process') {
      const ends = [...this.#finishing];
      const all = new AbortController();
      await Promise.race([
        Promise.all(ends),
        new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, this.#stopMs);
          all.signal.addEventListener('abort', () => clearTimeout(timer));
        }),
      ]);
      all.abort();
    }
    const left = [...this.#driven.values()];
    this.#executions.abort(new Error('the worker was stopped'));
    await Promise.all(this.#finishing);
    if (executor.scope === 'process')
      for (const { execution } of left) {
        const { run } = execution;
        if (run.phase === 'terminal') continue;
        logger.warn({ runId: run.id }, 'a run was ended because its service was stopped');
        await executor.remove({ runId: run.id, attempt: run.attempt, jobUid: run.jobUid }).catch(() => undefined);
        const stopped: Ending = { state: 4, reason: 'NODE_LOST', message: 'The service that ran the program was stopped. Run it again.' };
        const held = { id: run.id, fence: run.fence, phases: ['claimed', 'starting', 'running', 'collecting'] as const };
        await runs.end(held, run.desired === 'stopped' ? terminated : stopped).catch(() => undefined);
        this.#host.changed(run.id);
      }
    await this.#heart.stop();
    // From now on others go on with what runs in the cluster.
    await this.#members.leave().catch(() => undefined);
    for (const pool of this.#pools) this.#host.ringOthers(pool.name);
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

  async #lookAll(): Promise<number> {
    for (const pool of this.#pools) await this.#look(pool.name);
    return this.#driven.size;
  }

  /**
   * Claims what this worker can take of a pool, now. Calls that come while one is under way share one more that follows it. Returns
   * whether there is room for more.
   */
  #look(name: string): Promise<boolean> {
    const under = this.#looking.get(name);
    if (under) {
      this.#again.add(name);
      return under;
    }
    const look = this.#claim(name)
      .catch((err) => {
        this.#host.logger.warn({ err, pool: name }, 'runs could not be taken; it is tried again');
        return true;
      })
      .finally(() => {
        this.#looking.delete(name);
        if (this.#again.delete(name)) void this.#look(name);
      });
    this.#looking.set(name, look);
    return look;
  }

  async #claim(name: string): Promise<boolean> {
    const pool = this.#host.pools.get(name);
    // Who is not sure to be alive takes nothing: others may already count its runs as lost.
    if (!pool || !this.#taking || !this.#members.isAlive) return false;
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
            // In a cluster its object is the next worker's; here it is nobody's.
            if (this.#host.executor.scope === 'process')
              await this.#host.executor.remove({ runId: run.id, attempt: run.attempt, jobUid: run.jobUid });
            return;
          }
          await log.pack(execution.run);
          this.#host.changed(run.id);
        },
        // Nobody expected it; the sweep takes the run up again.
        (err) => logger.error({ err, runId: run.id }, 'a run was dropped by its worker; the sweep goes on with it'),
      )
      .catch((err) => logger.debug({ err, runId: run.id }, 'the log of a run is packed by the sweep'))
      .then(() => {
        this.#driven.delete(run.id);
        this.#finishing.delete(done);
      });
    this.#driven.set(run.id, { execution, done });
    this.#finishing.add(done);
  }

  /** A run has ended, and its slot is free: whoever is here looks first. What is left of it is tidied away meanwhile. */
  #freed(run: RunRow): void {
    this.#driven.delete(run.id);
    if (run.pool !== null && this.#taking) void this.#look(run.pool);
    if (run.pool !== null) this.#host.ringOthers(run.pool);
    const { state, reason } = run;
    this.#telemetry.settled.add(1, { kind: run.pool ?? '', outcome: reason ?? String(state) });
    this.#host.events.emit('run:ended', { runId: run.id, state, reason });
  }
}
