import { type Logger, wait } from '@holdfast/core';
import type { ExecutionRef, Executor } from '../executor/executor.ts';
import { LogWriter, type LogWriterOptions } from './log-writer.ts';

/** How long to wait for the rest of a log after its program has ended. */
const drainMs = 30_000;

export interface RunLogOptions extends LogWriterOptions {
  readonly executor: Executor;
  readonly ref: () => ExecutionRef;
  readonly logger: Logger;
}

/** Copies the output of a program from the executor into the run's events. */
export class RunLog {
  readonly #options: RunLogOptions;
  readonly #writer: LogWriter;
  readonly #abort = new AbortController();
  #reading: Promise<void> | undefined;

  constructor(options: RunLogOptions) {
    this.#options = options;
    this.#writer = new LogWriter(options);
  }

  /** Starts reading, once. */
  follow(): void {
    const { logger, ref } = this.#options;
    this.#reading ??= this.#read().catch((err) => {
      if (!this.#abort.signal.aborted) logger.warn({ err, runId: ref().runId }, 'the log of a run could not be read to its end');
    });
  }

  /** Waits for the rest of the log, at most {@link drainMs}. */
  async drain(): Promise<void> {
    this.follow();
    await Promise.race([this.#reading, wait(drainMs, this.#options.signal)]);
  }

  /** Ends the reading and writes what was read. Rejects if the run belongs to another worker. */
  close(): Promise<void> {
    this.#abort.abort(new Error('the rest of the log took too long'));
    return this.#writer.close();
  }

  /** Ends the reading, waits for it, and writes what was read, if that is still possible. */
  async stop(): Promise<void> {
    this.#abort.abort(new Error('the run has ended'));
    await this.#reading;
    await this.#writer.close().catch(() => undefined);
  }

  /** Ends the reading. */
  abort(reason: Error): void {
    this.#abort.abort(reason);
  }

  async #read(): Promise<void> {
    const { executor, ref } = this.#options;
    const { signal } = this.#abort;
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      try {
        for await (const piece of executor.logs(ref(), { after: this.#writer.position, signal })) {
          await this.#writer.push(piece);
          pauseMs = 100;
        }
        return;
      } catch (error) {
        if (signal.aborted || executor.scope === 'process') throw error;
      }
      await wait(pauseMs, signal);
    }
  }
}
