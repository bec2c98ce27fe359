import { checkpoint, HoldfastError, type Logger, monotonicMs, startTimer, storedError, wait } from '@holdfast/core';
import type { ExecutionRef, ExecutionSpec, Executor } from '../executor/executor.ts';
import type { Held } from '../runs/change-run.ts';
import { type Decision, decidable, decide, type Observed, type Situation, terminated } from '../runs/decide.ts';
import type { Output, RunRow } from '../runs/run.ts';
import type { RunTable } from '../runs/run-table.ts';
import type { RunWatch } from '../runs/run-watches.ts';
import type { Ending } from '../runs/states.ts';
import type { FileStore } from '../store/file-store.ts';
import { collectOutput } from './collect-output.ts';
import { RunLog } from './run-log.ts';

export interface ExecutionHost {
  readonly worker: string;
  readonly runs: RunTable;
  readonly executor: Executor;
  readonly store: FileStore;
  readonly spec: (run: RunRow) => Promise<ExecutionSpec>;
  readonly situation: () => Situation;
  /** Called when the run has ended and its slot is free; its object is still to be removed. */
  readonly ended: (run: RunRow) => void;
  /** Wakes readers of the run. */
  readonly changed: (runId: string) => void;
  readonly watch: (runId: string) => RunWatch;
  readonly graceMs: number;
  readonly logger: Logger;
}

/**
 * Drives one run of this worker from its present phase to its end. It reads the row and observes the object, does the step that
 * {@link decide} returns, and repeats. Each step may be done twice, so only the row has to survive a crash.
 */
export class Execution {
  readonly #host: ExecutionHost;
  readonly #log: RunLog;
  readonly #ended = new AbortController();
  #run: RunRow;
  #object: Observed | undefined;
  #seen = false;
  #observing = false;
  #overLimit = false;
  #stopAskedMs: number | undefined;
  #failures = 0;
  #resume: (() => void) | undefined;
  #wakePending = false;

  constructor(host: ExecutionHost, run: RunRow) {
    this.#host = host;
    this.#run = run;
    const limit = run.limits?.outputBytes ?? 0;
    this.#log = new RunLog({
      executor: host.executor,
      ref: () => this.#ref,
      logger: host.logger,
      limit,
      bytes: run.logBytes,
      position: run.logPosition,
      signal: this.#ended.signal,
      append: async (events, more) => {
        if (!(await host.runs.log(this.#held('starting', 'running', 'collecting'), events, more))) return false;
        host.changed(run.id);
        return true;
      },
      onTrouble: (err) => host.logger.warn({ err, runId: run.id }, 'the log of a run could not be stored; retrying'),
      onLimit: () => {
        if (this.#overLimit) return;
        this.#overLimit = true;
        void host.executor.stop(this.#ref, { graceMs: 0, because: 'OUTPUT_LIMIT' }).catch(() => undefined);
      },
    });
    // From `starting` on an object may exist, so it is observed before anything is created. In `claimed` none was requested yet.
    this.#seen = run.phase === 'claimed';
  }

  get run(): RunRow {
    return this.#run;
  }

  /** Resolves when the run has ended, belongs to another worker, or `signal` aborts. Rejects only after an unexpected error. */
  async drive(signal: AbortSignal): Promise<'ended' | 'lost' | 'left'> {
    const stop = (): void => this.#wake();
    signal.addEventListener('abort', stop, { once: true });
    const all = AbortSignal.any([signal, this.#ended.signal]);
    void this.#watchRow(all);
    try {
      if (!this.#seen) this.#observe(all);
      for (;;) {
        if (signal.aborted) return 'left';
        if (!this.#seen) {
          await this.#waitForChange(all, 1_000);
          continue;
        }
        const decision = decide(decidable(this.#run), this.#object, this.#host.situation());
        if (decision.do === 'adopt' || decision.do === 'requeue' || this.#run.phase === 'terminal')
          return this.#run.phase === 'terminal' ? 'ended' : 'lost';
        try {
          const next = await this.#perform(decision, all);
          if (next === 'ended') return 'ended';
          if (next === 'lost') return 'lost';
          if (next === 'wait') await this.#waitForChange(all, this.#pollMs());
          this.#failures = 0;
        } catch (err) {
          if (signal.aborted) return 'left';
          const { now, pendingMs } = this.#host.situation();
          // A run that can't be started for this long holds a slot that others wait for.
          if (decision.do === 'create' && (this.#run.claimedAt ?? now) + pendingMs < now) {
            const message = `${storedError(err).message}. It was retried for ${Math.round(pendingMs / 1_000)} s; tell whoever operates this service.`;
            const reason = HoldfastError.is(err, 'executor-pending') ? 'UNSCHEDULABLE' : 'INTERNAL';
            return (await this.#end({ state: 4, reason, message })) ? 'ended' : 'lost';
          }
          if (!(HoldfastError.is(err) && !err.retryable)) {
            // The database, the cluster or the store is not reachable. The row says where to continue.
            this.#failures += 1;
            this.#host.logger.warn({ err, runId: this.#run.id, step: decision.do }, 'a step of a run failed; retrying');
            await this.#waitForChange(all, Math.min(100 * 2 ** this.#failures, this.#pollMs()));
            await this.#refresh().catch(() => undefined);
            continue;
          }
          const ending: Ending = { state: 4, reason: 'INTERNAL', message: storedError(err).message };
          return (await this.#end(ending)) ? 'ended' : 'lost';
        }
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#ended.abort(new Error('this worker no longer drives the run'));
      this.#log.abort(new Error('this worker no longer drives the run'));
    }
  }

  async #perform(decision: Decision, signal: AbortSignal): Promise<'again' | 'wait' | 'ended' | 'lost'> {
    const { executor, runs } = this.#host;
    switch (decision.do) {
      case 'create':
        return this.#create(signal);
      case 'mark-running': {
        this.#log.follow();
        return this.#continueWith(await runs.move(this.#held('starting'), 'running', { now: 'started_at' }));
      }
      case 'stop': {
        this.#log.follow();
        const { graceMs } = this.#host;
        // Asked once, and again if the program has not ended for a while.
        if (this.#stopAskedMs === undefined || this.#stopAskedMs + graceMs + 10_000 < monotonicMs()) {
          this.#stopAskedMs = monotonicMs();
          await executor.stop(this.#ref, { graceMs });
        }
        return 'wait';
      }
      case 'collect': {
        this.#log.follow();
        const ending = decision.ending;
        await checkpoint('runner:ended');
        // A stop that was committed before this counts; a later one is too late.
        const unless = ending.state === 5 ? {} : ({ unless: 'stopped' } as const);
        // The files of a sandbox are lost with this process: they are collected before the end is recorded, in one commit.
        if (executor.scope === 'process') {
          const output = await this.#collect();
          const ended = await runs.collected(this.#held('starting', 'running'), ending, output, unless);
          return ended ? this.#finished(ended) : this.#continueWith(undefined);
        }
        const moved = await runs.move(this.#held('starting', 'running'), 'collecting', {
          set: { ending: JSON.stringify(ending) },
          ...unless,
        });
        return this.#continueWith(moved);
      }
      case 'finish':
        return this.#finish();
      case 'end': {
        if (!(await this.#end(decision.ending))) return this.#continueWith(undefined);
        // Not before: a worker that has lost the run must not remove the object of the next worker.
        if (this.#object) await executor.remove(this.#ref).catch(() => undefined);
        return 'ended';
      }
      case 'delete':
        if (this.#object) await executor.remove({ ...this.#ref, attempt: this.#object.attempt });
        this.#object = undefined;
        return 'again';
      default:
        if (this.#object && this.#object.status.is !== 'pending') this.#log.follow();
        return 'wait';
    }
  }

  async #create(signal: AbortSignal): Promise<'again' | 'wait' | 'ended' | 'lost'> {
    const { executor, runs } = this.#host;
    if (this.#run.phase === 'claimed') {
      const moved = await runs.move(this.#held('claimed'), 'starting', { unless: 'stopped' });
      if (!moved) return this.#continueWith(undefined);
      this.#run = moved;
    }
    await checkpoint('runner:create');
    const spec = await this.#host.spec(this.#run);
    await executor.start(spec, { signal });
    await checkpoint('runner:created');
    this.#observe(signal);
    if (executor.scope === 'process') this.#log.follow();
    return 'wait';
  }

  /** Collects the rest of the log and the results, then ends the run as recorded. */
  async #finish(): Promise<'ended' | 'again' | 'lost' | 'wait'> {
    const { runs } = this.#host;
    const ending = this.#run.ending ?? {
      ...terminated,
      state: 4 as const,
      reason: 'INTERNAL' as const,
      message: 'The end of the run was not recorded.',
    };
    const output = this.#object ? await this.#collect() : undefined;
    const ended = await runs.end(this.#held('collecting'), ending, output);
    return ended ? this.#finished(ended) : this.#continueWith(undefined);
  }

  /** The run has ended: its slot goes to the next run while its object is removed. */
  async #finished(ended: RunRow): Promise<'ended'> {
    this.#run = ended;
    this.#host.changed(ended.id);
    this.#host.ended(ended);
    // If this fails, the sweep removes the object.
    await this.#host.executor
      .remove(this.#ref)
      .catch((err) =>
        this.#host.logger.debug({ err, runId: ended.id }, 'the object of a finished run could not be removed; the sweep removes it'),
      );
    return 'ended';
  }

  /** Collects the rest of the log and the files in `/out`. */
  async #collect(): Promise<Output> {
    await this.#log.drain();
    const { executor, store } = this.#host;
    const output = await collectOutput(executor, store, this.#ref, this.#run.limits?.resultBytes ?? 0);
    await this.#log.close();
    await checkpoint('runner:collected');
    return output;
  }

  async #end(ending: Ending): Promise<boolean> {
    await this.#log.stop();
    const ended = await this.#host.runs.end(this.#held('claimed', 'starting', 'running', 'collecting'), ending);
    if (!ended) return false;
    this.#run = ended;
    this.#host.changed(ended.id);
    this.#host.ended(ended);
    return true;
  }

  /** After a compare-and-set: continues with the new row or, if it failed, with the row as another process changed it. */
  async #continueWith(run: RunRow | undefined): Promise<'again' | 'lost'> {
    if (run) {
      this.#run = run;
      this.#host.changed(run.id);
      return 'again';
    }
    return (await this.#refresh()) ? 'again' : 'lost';
  }

  /** Reads the row again. False: the run belongs to another worker. */
  async #refresh(): Promise<boolean> {
    const run = await this.#host.runs.find(this.#run.id);
    if (!run || run.fence !== this.#run.fence || run.worker !== this.#host.worker) return false;
    this.#run = run;
    return true;
  }

  async #watchRow(signal: AbortSignal): Promise<void> {
    using watch = this.#host.watch(this.#run.id);
    while (!signal.aborted) {
      await watch.changed(signal).catch(() => undefined);
      if (signal.aborted) return;
      const row = await this.#host.runs.find(this.#run.id).catch(() => undefined);
      if (row && row.fence === this.#run.fence && row.desired !== this.#run.desired) {
        this.#run = { ...this.#run, desired: row.desired, stoppedBy: row.stoppedBy };
        this.#wake();
      } else if (row && row.fence !== this.#run.fence) {
        this.#run = { ...this.#run, worker: row.worker };
        this.#wake();
      }
    }
  }

  #observe(signal: AbortSignal): void {
    if (this.#observing) return;
    this.#observing = true;
    const run = async (): Promise<void> => {
      for (let pauseMs = 100; !signal.aborted; pauseMs = Math.min(pauseMs * 2, 5_000)) {
        try {
          for await (const object of this.#host.executor.observe(this.#ref, { signal })) {
            this.#object = object;
            this.#seen = true;
            this.#wake();
            if (object?.status.is === 'ended') return;
          }
        } catch (err) {
          if (!signal.aborted) this.#host.logger.debug({ err, runId: this.#run.id }, 'observing a run failed; retrying');
        }
        await wait(pauseMs, signal).catch(() => undefined);
      }
    };
    void run();
  }

  /** How long to wait before the next decision if nothing changes. */
  #pollMs(): number {
    const { now, pendingMs } = this.#host.situation();
    if (this.#run.phase !== 'starting' || this.#run.claimedAt === null) return 5_000;
    return Math.min(5_000, Math.max(50, this.#run.claimedAt + pendingMs - now + 10));
  }

  #held(...phases: Held['phases']): Held {
    return { id: this.#run.id, fence: this.#run.fence, phases };
  }

  get #ref(): ExecutionRef {
    return { runId: this.#run.id, attempt: this.#run.attempt, jobUid: this.#run.jobUid };
  }

  #wake(): void {
    this.#resume?.();
    this.#resume = undefined;
    this.#wakePending = true;
  }

  /** Waits until something changes, at most `ms`. */
  async #waitForChange(signal: AbortSignal, ms: number): Promise<void> {
    if (this.#wakePending) {
      this.#wakePending = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = startTimer(ms, resolve).unref();
      this.#resume = () => {
        timer.clear();
        resolve();
      };
      if (signal.aborted) this.#resume();
    });
    this.#wakePending = false;
  }
}
