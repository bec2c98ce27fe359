import { guardLogger } from '../observe/guard-logger.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { wait } from '../time/wait.ts';
import { lifecycle } from './lifecycle.ts';
import type { Service } from './service.ts';

/** Options of {@link defineLoop}. */
export interface LoopOptions<Counts> {
  /** Names the loop in log lines. */
  readonly name: string;
  /** One pass. Returns counts of what it did. If it throws, the error is logged, and the loop runs it again after a pause. */
  readonly runOnce: (context: { readonly signal: AbortSignal }) => Promise<Counts>;
  /** Returns whether the next pass follows without a pause, since this one left work. Default: never. */
  readonly busy?: (counts: Counts) => boolean;
  /**
   * Returns the pause before the next pass: about so many ms, up to a tenth more or less, so that many processes don't act at once; or
   * `{ untilMs }`, at least so many ms, for a pass that is due at an instant. Default, also for `undefined`: a pause that doubles from
   * `minMs` to `maxMs`.
   */
  readonly pauseMs?: (counts: Counts | undefined) => Pause | undefined;
  /** Shortest pause, in ms. Default 50. */
  readonly minMs?: number;
  /** Longest pause, in ms. Default 5,000. After a failure the pause is at most 2,000. */
  readonly maxMs?: number;
  readonly logger: Logger;
}

/** A pause of about `number` ms, or one that ends at an instant, `untilMs` ms from now and never before. */
export type Pause = number | { readonly untilMs: number };

/** A service that repeats `runOnce`, with pauses that grow while there is nothing to do and when it fails. */
export interface Loop<Counts> extends Service {
  /** Runs one pass, outside of the loop. */
  runOnce(context: { readonly signal: AbortSignal }): Promise<Counts>;
  /** Ends the current pause. During a pass: the next pass follows without a pause. */
  wake(): void;
}

/** Longest pause after a failure: when the database is back, work must continue within five seconds, even if loops wait for each other. */
const failedMaxMs = 2_000;

/** Makes a loop of `runOnce`. Passes never overlap. */
export function defineLoop<Counts>(options: LoopOptions<Counts>): Loop<Counts> {
  const minMs = options.minMs ?? 50;
  const logger = guardLogger(options.logger);
  let stopping: AbortController | undefined;
  let running: Promise<void> | undefined;
  let awake = false;
  let pause: AbortController | undefined;

  const run = async (signal: AbortSignal): Promise<void> => {
    let idleMs = minMs;
    while (!signal.aborted) {
      awake = false;
      let failed = false;
      let busy = false;
      let asked: Pause | undefined;
      try {
        const counts = await options.runOnce({ signal });
        busy = counts !== undefined && (options.busy?.(counts) ?? false);
        if (!busy && !awake) asked = options.pauseMs?.(counts);
      } catch (error) {
        if (signal.aborted) return;
        failed = true;
        logger.warn({ loop: options.name, err: error }, `the loop ${options.name} failed; retrying`);
      }
      if (busy) {
        idleMs = minMs;
        continue;
      }
      if (awake && !failed) continue;
      const ms = asked ?? (failed ? Math.min(idleMs, failedMaxMs) : idleMs);
      idleMs = Math.min(idleMs * 2, options.maxMs ?? 5_000);
      pause = new AbortController();
      const ended = AbortSignal.any([signal, pause.signal]);
      await waitFull(typeof ms === 'number' ? ms * (0.9 + 0.2 * Math.random()) : ms.untilMs, ended).catch(() => undefined);
      if (pause.signal.aborted) idleMs = minMs;
      pause = undefined;
    }
  };

  const service = lifecycle({
    start() {
      stopping = new AbortController();
      running = run(stopping.signal);
    },
    async stop() {
      stopping?.abort(new Error(`the loop ${options.name} was stopped`));
      await running;
    },
  });
  return {
    ...service,
    runOnce: options.runOnce,
    wake() {
      awake = true;
      pause?.abort();
    },
  };
}

/** Resolves after `ms`, not before: a timer may fire a little early, and lasts 24 days at most. */
async function waitFull(ms: number, signal: AbortSignal): Promise<void> {
  const at = monotonicMs() + ms;
  for (let left = ms; left > 0; left = at - monotonicMs()) await wait(Math.ceil(left), signal);
}
