import { isConnectionError, isTransient, type Logger, monotonicMs, wait } from '@holdfast/core';
import type { AttemptEnd, AttemptLog, EndWritten, SkippedAttempt } from '../attempt/attempt-log.ts';

export interface EndWriterOptions {
  readonly endpointId: string;
  /** Duration of the lease, in ms. */
  readonly leaseMs: number;
  /** Aborts when the lease of the endpoint is lost, or when the worker's `stopTimeout` has passed. */
  readonly signal: AbortSignal;
  readonly log: Pick<AttemptLog, 'end' | 'skip'>;
  readonly logger: Logger;
}

/** Writes the ends of an endpoint's attempts, with retries while the database is unavailable, for the time of a lease: then another worker may have the endpoint. */
export class EndWriter {
  readonly #options: EndWriterOptions;

  constructor(options: EndWriterOptions) {
    this.#options = options;
  }

  /** Writes the end of an attempt. If that fails, the attempt will be recorded as unknown, and this resolves with `refused`. */
  end(end: AttemptEnd): Promise<EndWritten> {
    return this.#write<EndWritten>(() => this.#options.log.end(end), 'refused');
  }

  /** Cancels or postpones a notification. Resolves with `false` if it was refused, or can't be written. */
  skip(skipped: SkippedAttempt): Promise<boolean> {
    return this.#write(() => this.#options.log.skip(skipped), false);
  }

  async #write<T>(write: () => Promise<T>, failed: T): Promise<T> {
    const { endpointId, leaseMs, signal, logger } = this.#options;
    const started = monotonicMs();
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        return await write();
      } catch (err) {
        const temporary = isConnectionError(err) || isTransient(err);
        const leftMs = leaseMs - (monotonicMs() - started);
        pauseMs = Math.min(pauseMs, leftMs);
        if (!temporary || signal.aborted || leftMs <= 0) {
          logger.error({ err, endpoint: endpointId }, 'the end of an attempt could not be written; it will count as unknown');
          // The row is still due: not at once again.
          await wait(1_000, signal).catch(() => undefined);
          return failed;
        }
      }
      await wait(pauseMs, signal).catch(() => undefined);
    }
  }
}
