import { checkpoint, HoldfastError, type Logger, monotonicMs, storedError, wait } from '@holdfast/core';
import type { ExecutionRef, ExecutionSpec, Executor } from '../executor/executor.ts';
import type { Held } from '../runs/change-run.ts';
import { type Decision, decidable, decide, type Observed, type Situation, terminated } from '../runs/decide.ts';
import type { Output, RunRow } from '../runs/run.ts';
import type { RunWatch } from '../runs/run-news.ts';
import type { RunTable } from '../runs/run-table.ts';
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
  /** The run has ended and its slot is free; what is left of it here is still to be removed. */
  readonly ended: (run: RunRow) => void;
  /** Tells readers of the run's events. */
  readonly changed: (runId: string) => void;
  readonly watch: (runId: string) => RunWatch;
  readonly graceMs: number;
  readonly logger: Logger;
}

/**
 * Drives one run of this worker from wherever it is to its end. It looks at the row and at what there is outside, does what
 * {@link decide} says, and looks again; what it does is safe to do twice, so nothing but the row has to survive.
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
  #stir: (() => void) | undefined;
  #stirred = false;

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
      onTrouble: (err) => host.logger.warn({ err, runId: run.id }, 'the log of a run can not be stored at the moment; it is tried again'),
      onLimit: () => {
        if (this.#overLimit) return;
        this.#overLimit = true;
        void host.executor.stop(this.#ref, { graceMs: 0, because: 'OUTPUT_LIMIT' }).catch(() => undefined);
      },
    });
    // From `starting` on there may be an object, so it is looked for before anything is created. Before, nobody has asked for one.
    this.#seen = run.phase === 'claimed';
  }

  get run(): RunRow {
    return this.#run;
  }

  /** Until the run has ended, or is another's, or `signal` aborts. Rejects only with what nobody expected. */
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
          await this.#rest(all, 1_000);
          continue;
        }
        const decision = decide(decidable(this.#run), this.#object, this.#host.situation());
        if (decision.do === 'adopt' || decision.do === 'requeue' || this.#run.phase === 'terminal')
          return this.#run.phase === 'terminal' ? 'ended' : 'lost';
        try {
          const next = await this.#perform(decision, all);
          if (next === 'ended') return 'ended';
          if (next === 'lost') return 'lost';
          if (next === 'rest') await this.#rest(all, this.#patienceMs());
          this.#failures = 0;
        } catch (err) {
          if (signal.aborted) return 'left';
          const { now, pendingMs } = this.#host.situation();
          // What can't be started for so long holds a slot that others wait for.
          if (decision.do === 'create' && (this.#run.claimedAt ?? now) + pendingMs < now) {
            const message = `${storedError(err).message}. It was tried for ${Math.round(pendingMs / 1_000)} s; tell whoever operates this service.`;
            const reason = HoldfastError.is(err, 'executor-pending') ? 'UNSCHEDULABLE' : 'INTERNAL';
            return (await this.#end({ state: 4, reason, message })) ? 'ended' : 'lost';
          }
          if (!(HoldfastError.is(err) && !err.retryable)) {
            // The database, the cluster or the store is away: the row says where to go on.
            this.#failures += 1;
            this.#host.logger.warn({ err, runId: this.#run.id, step: decision.do }, 'a step of a run failed; it is tried again');
            await this.#rest(all, Math.min(100 * 2 ** this.#failures, this.#patienceMs()));
            await this.#refresh().catch(() => undefined);
            continue;
          }
          const ending: Ending = { state: 4, reason: 'INTERNAL', message: storedError(err).message };
          return (await this.#end(ending)) ? 'ended' : 'lost';
        }
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#ended.abort(new Error('the run is over here'));
      this.#log.abort(new Error('the run is over here'));
    }
  }

  async #perform(decision: Decision, signal: AbortSignal): Promise<'again' | 'rest' | 'ended' | 'lost'> {
    const { executor, runs } = this.#host;
    switch (decision.do) {
      case 'create':
        return this.#create(signal);
      case 'mark-running': {
        this.#log.follow();
        return this.#moved(await runs.move(this.#held('starting'), 'running', { now: 'started_at' }));
      }
      case 'stop': {
        this.#log.follow();
        const { graceMs } = this.#host;
        // Asked once; again if nothing has come of it for a while.
        if (this.#stopAskedMs === undefined || this.#stopAskedMs + graceMs + 10_000 < monotonicMs()) {
          this.#stopAskedMs = monotonicMs();
          await executor.stop(this.#ref, { graceMs });
        }
        return 'rest';
      }
      case 'collect': {
        this.#log.follow();
        const ending = decision.ending;
        await checkpoint('runner:ended');
        // A wish to stop that was committed before this counts; one after it comes too late.
        const unless = ending.state === 5 ? {} : ({ unless: 'stopped' } as const);
        // What is in a sandbox is lost with this process: it is gathered before the end is written down, and both are one commit.
        if (executor.scope === 'process') {
          const output = await this.#gather();
          const ended = await runs.collected(this.#held('starting', 'running'), ending, output, unless);
          return ended ? this.#over(ended) : this.#moved(undefined);
        }
        const moved = await runs.move(this.#held('starting', 'running'), 'collecting', {
          set: { ending: JSON.stringify(ending) },
          ...unless,
        });
        return this.#moved(moved);
      }
      case 'finish':
        return this.#finish();
      case 'end': {
        if (!(await this.#end(decision.ending))) return this.#moved(undefined);
        // Only then: whoever has lost the run must not take its object from the next worker.
        if (this.#object) await executor.remove(this.#ref).catch(() => undefined);
        return 'ended';
      }
      case 'delete':
        if (this.#object) await executor.remove({ ...this.#ref, attempt: this.#object.attempt });
        this.#object = undefined;
        return 'again';
      default:
        if (this.#object && this.#object.status.is !== 'pending') this.#log.follow();
        return 'rest';
    }
  }

  async #create(signal: AbortSignal): Promise<'again' | 'rest' | 'ended' | 'lost'> {
    const { executor, runs } = this.#host;
    if (this.#run.phase === 'claimed') {
      const moved = await runs.move(this.#held('claimed'), 'starting', { unless: 'stopped' });
      if (!moved) return this.#moved(undefined);
      this.#run = moved;
    }
    await checkpoint('runner:create');
    const spec = await this.#host.spec(this.#run);
    await executor.start(spec, { signal });
    await checkpoint('runner:created');
    this.#observe(signal);
    if (executor.scope === 'process') this.#log.follow();
    return 'rest';
  }

  /** Gathers the rest of the log and the results, then ends the run as it was decided. */
  async #finish(): Promise<'ended' | 'again' | 'lost' | 'rest'> {
    const { runs } = this.#host;
    const ending = this.#run.ending ?? {
      ...terminated,
      state: 4 as const,
      reason: 'INTERNAL' as const,
      message: 'How the run ended was not kept.',
    };
    const output = this.#object ? await this.#gather() : undefined;
    const ended = await runs.end(this.#held('collecting'), ending, output);
    return ended ? this.#over(ended) : this.#moved(undefined);
  }

  /** The run has ended: its slot goes to the next one while what it leaves behind is removed. */
  async #over(ended: RunRow): Promise<'ended'> {
    this.#run = ended;
    this.#host.changed(ended.id);
    this.#host.ended(ended);
    // What is left behind here, the sweep finds.
    await this.#host.executor
      .remove(this.#ref)
      .catch((err) => this.#host.logger.debug({ err, runId: ended.id }, 'a finished run is removed by the sweep'));
    return 'ended';
  }

  /** The rest of the log, and what is in `/out`. */
  async #gather(): Promise<Output> {
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

  /** After a compare-and-set: on with the new row, or with what the row is instead. */
  async #moved(run: RunRow | undefined): Promise<'again' | 'lost'> {
    if (run) {
      this.#run = run;
      this.#host.changed(run.id);
      return 'again';
    }
    return (await this.#refresh()) ? 'again' : 'lost';
  }

  /** Reads the row again. False: it is another's. */
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
          if (!signal.aborted) this.#host.logger.debug({ err, runId: this.#run.id }, 'watching a run failed; it is watched again');
        }
        await wait(pauseMs, signal).catch(() => undefined);
      }
    };
    void run();
  }

  /** How long nothing need be looked at, if nothing changes. */
  #patienceMs(): number {
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
    this.#stir?.();
    this.#stir = undefined;
    this.#stirred = true;
  }

  /** Until something changes. */
  async #rest(signal: AbortSignal, ms: number): Promise<void> {
    if (this.#stirred) {
      this.#stirred = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      timer.unref();
      this.#stir = () => {
        clearTimeout(timer);
        resolve();
      };
      if (signal.aborted) this.#stir();
    });
    this.#stirred = false;
  }
}
