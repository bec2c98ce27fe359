import { callListener } from '../observe/call-listener.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import { wait } from '../time/wait.ts';

/** The work of a {@link Drain}. */
export interface DrainOptions {
  /** Returns whether anything waits to be handled now. */
  readonly pending: () => boolean;
  /**
   * Handles a part of what is pending. If it throws, it must have put back what it took: it runs again after a pause of 50 ms, which doubles with
   * each failure up to 2 s.
   */
  readonly step: () => Promise<void>;
  /** Receives the error that a step threw. */
  readonly onError: (error: unknown) => void;
  /** Runs once nothing is pending, before the loop ends. */
  readonly last?: () => Promise<void>;
}

/**
 * Runs one loop over what is pushed, never two at a time. A push while the loop runs is handled by it; a push after its end starts it again.
 *
 * The loop ends in the turn of the event loop in which nothing was pending. If its end were noted later (in a `finally` of its promise), a
 * push in between would wait for the next push.
 */
export class Drain {
  readonly #options: DrainOptions;
  #running: Promise<void> | undefined;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  /** Starts the loop unless it runs. What is pushed in this turn of the event loop is handled together. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** The loop that runs now; it resolves when nothing is pending. `undefined` if none runs. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  async #run(): Promise<void> {
    const { pending, step, onError, last } = this.#options;
    await undefined;
    try {
      do {
        for (let pauseMs = 50; pending(); ) {
          try {
            await step();
            pauseMs = 50;
          } catch (error) {
            callListener(() => onError(error), errorLost);
            await wait(pauseMs);
            pauseMs = Math.min(pauseMs * 2, 2_000);
          }
        }
        // A push may come while this waits, so the loop checks once more. Without `last` there is no await, and so no such push.
        if (last) await last();
      } while (pending());
    } finally {
      this.#running = undefined;
    }
  }
}

function errorLost(error: unknown): void {
  guardLogger().error({ err: error }, 'the function that receives the errors of a drain failed; the drain continues');
}
