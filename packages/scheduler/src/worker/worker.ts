import {
  commitRows,
  createUpkeep,
  type Duration,
  defineLoop,
  durationMs,
  type KindPolicy,
  type Loop,
  leaderLoop,
  lifecycle,
  ProgressReports,
  type Service,
  type SettleHook,
  type Settlement,
  Telemetry,
  uuidv7,
  WorkRunner,
  wholeNumber,
} from '@holdfast/core';
import { saveJob } from '../job/save-job.ts';
import { jobsPerPass, type PlanCounts, planJobs } from '../plan/plan-jobs.ts';
import type { Registry } from '../registry.ts';
import { purgeRuns } from '../run/purge-runs.ts';
import { rearmDelays, repairDelays } from '../run/rearm-delays.ts';
import { runJob } from '../run/run-job.ts';
import { skipBeforeTurn, skipOverlapped } from '../run/skip-overlapped.ts';

/** Options of a worker. */
export interface WorkerOptions {
  /** Runs at a time in this worker, at most. Default 10. */
  readonly concurrency?: number;
  /** Whether this worker plans, too. Default true; any number of workers may. */
  readonly plan?: boolean;
  /** How long a run stays with this worker without a renewal. Default 30 s. */
  readonly lease?: Duration;
  /** How long `stop` waits for processors before it aborts their signals. Default 30 s. */
  readonly stopTimeout?: Duration;
}

/** How far ahead fires become rows, in ms. */
const planAheadMs = 10_000;
const maxLost = 3;
/** Pause between two passes that delete old runs, in ms. */
const sweepMs = 600_000;

/** Plans jobs, and runs those whose processors are registered here. */
export class SchedulerWorker implements Service {
  /** The name of this worker in the `owner` column. */
  readonly id: string = uuidv7();
  readonly #registry: Registry;
  readonly #runner: WorkRunner;
  readonly #promote: Loop<number>;
  readonly #loops: readonly Service[];
  readonly #plan: Loop<PlanCounts> | undefined;
  readonly #lifecycle: Service;
  #unlisten: (() => void) | undefined;
  /** A job with a fixed delay is due again since a run of it ended: it is to be planned once that has committed. */
  #rearmed = false;

  constructor(registry: Registry, options: WorkerOptions = {}) {
    this.#registry = registry;
    const { table, logger, processors, database } = registry;
    const leaseMs = Math.max(100, durationMs(options.lease ?? '30s', 'lease'));
    const concurrency = wholeNumber('concurrency', options.concurrency ?? 10, { most: 10_000 });
    const policy: KindPolicy = {
      concurrency,
      batch: 1,
      keep: () => true,
      groupConcurrency: concurrency,
      maxLost,
      admit: (wanted) => wanted,
    };
    const policies = new Map([...processors.keys()].map((name) => [name, policy]));
    const reports = new ProgressReports(table, logger);
    const maxPollMs = (): number => (registry.wakers.reliable ? 5_000 : 500);
    this.#runner = new WorkRunner({
      table,
      owner: this.id,
      leaseMs,
      kinds: () => policies,
      run: async ([running]) => {
        if (!running) return new Map();
        const verdicts = await runJob(running, {
          processors,
          logger,
          report: (row, json) => reports.report(row, json),
          commit: async (row, effects, result) => {
            const settlements: Settlement[] = [
              { row, verdict: { outcome: 'done', ...(result === undefined ? {} : { result }) }, keep: true },
            ];
            await commitRows(table, { settlements, effects, hook: this.#hook(settlements) });
            this.#runner.committed(settlements);
          },
        });
        await reports.end(running.row, verdicts.get(running.row.id)?.outcome === 'done');
        return verdicts;
      },
      settleHook: (settlements) => this.#hook(settlements),
      onSettled: () => {
        this.#runner.wake();
        this.#promote.wake();
        if (!this.#rearmed) return;
        this.#rearmed = false;
        this.#plan?.wake();
      },
      stopMs: durationMs(options.stopTimeout ?? '30s', 'stopTimeout'),
      maxPollMs,
      logger,
      telemetry: new Telemetry('@holdfast/scheduler'),
    });
    const { promote, others, scheduledIn } = createUpkeep({
      table,
      prefix: 'scheduler ',
      logger,
      leaseMs,
      minPollMs: 1,
      maxPollMs,
      onPromoted: (count) => {
        if (count === 0) return;
        this.#runner.wake();
        registry.wakers.wakeElsewhere();
      },
      rescue: async (backMs, signal) => {
        const { rescued, dead } = await table.rescue({
          maxLost: () => maxLost,
          adoptAfterMs: 600_000,
          backMs,
          signal,
          hook: async (sql, settled) => void (await this.#hook(settled)?.(sql, settled)),
        });
        return rescued + dead;
      },
      repair: (signal) => registry.effects.repair([...processors.keys()], () => registry.wakers.wake(), 'part', signal),
    });
    this.#promote = promote;
    if (options.plan ?? true)
      this.#plan = defineLoop({
        name: 'scheduler plan',
        logger,
        runOnce: async () => {
          const counts = await planJobs(database, planAheadMs);
          if (counts.runs > 0) scheduledIn(0);
          return counts;
        },
        busy: ({ jobs }) => jobs === jobsPerPass,
        // Fires are planned ten seconds ahead, so that a pause of a second delays none.
        pauseMs: () => 1_000,
      });
    const skip = defineLoop({ name: 'scheduler skip', logger, runOnce: () => skipOverlapped(database), pauseMs: () => 1_000 });
    const sweep = leaderLoop({
      table: registry.leases,
      name: `scheduler sweep ${registry.app}`,
      owner: this.id,
      everyMs: sweepMs,
      logger,
      run: async ({ signal }) => {
        await repairDelays(database);
        await purgeRuns(table, [...processors.keys()], registry.keep, signal);
        await registry.orphans.sweep(signal);
        await registry.once.purge(signal);
      },
    });
    this.#loops = [promote, skip, sweep, ...(this.#plan ? [this.#plan] : []), ...others];
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** Checks the tables, writes the rows of declared jobs, and starts the loops. @throws MigrationRequiredError, DatabaseUnavailableError */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Stops claiming and planning, and waits for processors up to `stopTimeout` and two seconds. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops the worker, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Number of runs that this worker holds. */
  get inFlight(): number {
    return this.#runner.inFlight;
  }

  /** The changes that commit with the end of runs: overlapped fires are skipped, the turn passes on, a fixed delay is due again. */
  #hook(settlements: readonly Settlement[]): SettleHook | undefined {
    const { database, effects } = this.#registry;
    return async (sql, settled) => {
      const ended = settled.filter(({ verdict: { outcome } }) => outcome === 'done' || outcome === 'dead' || outcome === 'cancel');
      for (const { row } of ended) if (row.payload.gate) await skipBeforeTurn(database, sql, row.kind, row.payload.gate);
      await effects.hook(settlements, this.id, () => undefined)?.(sql, settled);
      const rearmed = await rearmDelays(
        database,
        sql,
        ended.map(({ row }) => row.payload.jobId ?? ''),
      );
      if (rearmed > 0) this.#rearmed = true;
    };
  }

  async #start(): Promise<void> {
    const { app, database, declared, wakers } = this.#registry;
    await this.#registry.check();
    for (const [key, definition] of declared) await database.transaction((sql) => saveJob(database, sql, { app, key, definition }));
    this.#unlisten = wakers.listen(() => {
      this.#plan?.wake();
      this.#promote.wake();
      this.#runner.wake();
    });
    await this.#runner.start();
    for (const loop of this.#loops) await loop.start();
  }

  async #stop(): Promise<void> {
    this.#unlisten?.();
    await Promise.all([this.#runner.stop(), ...this.#loops.map((loop) => loop.stop())]);
  }
}
