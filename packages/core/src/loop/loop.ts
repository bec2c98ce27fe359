import type { Logger } from '../observe/logger.ts';
import { wait } from '../time/wait.ts';
import { lifecycle } from './lifecycle.ts';
import type { Service } from './service.ts';

/** What a loop does in a round, how long it pauses, and what wakes it. */
export interface LoopOptions<Counts> {
  /** For logs. */
  readonly name: string;
  /** One pass. Returns what it did. */
  readonly runOnce: (context: { readonly signal: AbortSignal }) => Promise<Counts>;
  /** Whether a pass found so much that the next should follow at once. */
  readonly busy?: (counts: Counts) => boolean;
  /** Milliseconds to the next pass, given the number of idle passes before; the default grows from `minMs` to `maxMs`. */
  readonly pauseMs?: (counts: Counts | undefined) => number | undefined;
  /** Shortest pause, in ms. Default 50. */
  readonly minMs?: number;
  /** Longest pause, in ms. Default 5,000; after a failure never more than 2,000. */
  readonly maxMs?: number;
  readonly logger: Logger;
}

/** A service that repeats `runOnce`, with pauses that grow while there is nothing to do and when it fails. */
export interface Loop<Counts> extends Service {
  /** One pass by hand. */
  runOnce(context: { readonly signal: AbortSignal }): Promise<Counts>;
  /** Ends the present pause. */
  wake(): void;
}

/** Longest pause after a failure: a database that is back is worked with again within five seconds, by loops that follow each other. */
const failedMaxMs = 2_000;

/** Makes a loop of `runOnce`: woken, or after its pause, one round at a time. */
export function defineLoop<Counts>(options: LoopOptions<Counts>): Loop<Counts> {
  const minMs = options.minMs ?? 50;
  let stopping: AbortController | undefined;
  let running: Promise<void> | undefined;
  let awake = false;
  let pause: AbortController | undefined;

  const run = async (signal: AbortSignal): Promise<void> => {
    let idleMs = minMs;
    while (!signal.aborted) {
      awake = false;
      let counts: Counts | undefined;
      let failed = false;
      try {
        counts = await options.runOnce({ signal });
      } catch (error) {
        if (signal.aborted) return;
        failed = true;
        options.logger.warn({ loop: options.name, err: error }, `the loop ${options.name} failed; it tries again`);
      }
      if (!failed && counts !== undefined && options.busy?.(counts)) {
        idleMs = minMs;
        continue;
      }
      if (awake && !failed) continue;
      const asked = failed ? undefined : options.pauseMs?.(counts);
      const ms = asked ?? (failed ? Math.min(idleMs, failedMaxMs) : idleMs);
      idleMs = Math.min(idleMs * 2, options.maxMs ?? 5_000);
      pause = new AbortController();
      await wait(ms * (0.9 + 0.2 * Math.random()), AbortSignal.any([signal, pause.signal])).catch(() => undefined);
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
