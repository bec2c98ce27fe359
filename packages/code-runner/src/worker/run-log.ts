import { type Logger, wait } from '@holdfast/core';
import type { ExecutionRef, Executor } from '../executor/executor.ts';
import { LogWriter, type LogWriterOptions } from './log-writer.ts';

/** How long the rest of a log is waited for after its program has ended. */
const drainMs = 30_000;

export interface RunLogOptions extends LogWriterOptions {
  readonly executor: Executor;
  readonly ref: () => ExecutionRef;
  readonly logger: Logger;
}

/** What a program prints, from the executor into the run's events. */
export class RunLog {
  readonly #options: RunLogOptions;
  readonly #writer: LogWriter;
  readonly #abort = new AbortController();
  #reading: Promise<void> | undefined;

  constructor(options: RunLogOptions) {
    this.#options = options;
    this.#writer = new LogWriter(options);
  }

  /** Begins to read what the program prints. */
  follow(): void {
    const { logger, ref } = this.#options;
    this.#reading ??= this.#read().catch((err) => {
      if (!this.#abort.signal.aborted) logger.warn({ err, runId: ref().runId }, 'the log of a run could not be read to its end');
    });
  }

  /** Waits for the rest of the log, but not for ever. */
  async drain(): Promise<void> {
    this.follow();
    await Promise.race([this.#reading, wait(drainMs, this.#options.signal)]);
  }

  /** Writes what was read; what comes later is not read. Rejects if the run is another's. */
  close(): Promise<void> {
    this.#abort.abort(new Error('the log was waited for long enough'));
    return this.#writer.close();
  }

  /** Ends the reading, and waits for that. */
  async stop(): Promise<void> {
    this.#abort.abort(new Error('the run is over'));
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
