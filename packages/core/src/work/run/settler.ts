import { isConnectionError, isTransient } from '../../database/transient.ts';
import type { Logger } from '../../observe/logger.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import { startTimer, type Timer } from '../../time/timer.ts';
import { wait } from '../../time/wait.ts';
import type { Settlement } from '../row/settle-rows.ts';

/** The write of a {@link Settler}, and what it reports. */
export interface SettlerOptions {
  /** Writes a batch. Resolves with the ids of the rows that this worker still held. */
  readonly write: (batch: readonly Settlement[]) => Promise<Set<string>>;
  /** Called for each settlement after it was written or refused. */
  readonly onSettled: (settlement: Settlement, accepted: boolean) => void;
  /** Returns for how long the settler tries to write a verdict while the database is unavailable, in ms: no longer than its lease lasts. */
  readonly patienceMs: () => number;
  readonly logger: Logger;
}

/** A batch is written when this many settlements wait. On Postgres 1,000 give 11% more rows a second than 500. */
const batchRows = 1_000;
/** A batch is also written when its first settlement has waited this long, in ms. */
const lingerMs = 3;
/** Batches that are written at a time. */
const concurrency = 2;

/**
 * Buffers verdicts and writes them in batches. While a batch is written, the next claim and the next handlers run. Workers that settle rows
 * one by one, or that claim only after the settle, leave half of the machine idle instead.
 */
export class Settler {
  readonly #options: SettlerOptions;
  #waiting: Settlement[] = [];
  #timer: Timer | undefined;
  #writing = 0;
  #idle: (() => void)[] = [];

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /** The number of verdicts that wait to be written. */
  get pending(): number {
    return this.#waiting.length;
  }

  push(settlement: Settlement): void {
    this.#waiting.push(settlement);
    if (this.#waiting.length >= batchRows) this.#flush();
    else this.#timer ??= startTimer(lingerMs, () => this.#flush());
  }

  /** Resolves when all verdicts are written. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0 || this.#writing > 0) {
      this.#flush();
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  #flush(): void {
    this.#timer?.clear();
    this.#timer = undefined;
    while (this.#waiting.length > 0 && this.#writing < concurrency) {
      const batch = this.#waiting.length <= batchRows ? this.#waiting : this.#waiting.slice(0, batchRows);
      this.#waiting = this.#waiting.length <= batchRows ? [] : this.#waiting.slice(batchRows);
      this.#writing += 1;
      void this.#write(batch).finally(() => {
        this.#writing -= 1;
        if (this.#waiting.length > 0) this.#flush();
        const idle = this.#idle;
        this.#idle = [];
        for (const resolve of idle) resolve();
      });
    }
  }

  /**
   * Retries a batch while the database is unavailable, up to `patienceMs`: then the leases have expired, and other workers rescue the rows.
   * A batch that the database refuses is halved, so that a verdict that can't be written does not take the others with it.
   */
  async #write(batch: readonly Settlement[]): Promise<void> {
    const { write, onSettled, patienceMs, logger } = this.#options;
    const started = monotonicMs();
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        const accepted = await write(batch);
        for (const settlement of batch) onSettled(settlement, accepted.has(settlement.row.id));
        return;
      } catch (error) {
        const temporary = isConnectionError(error) || isTransient(error);
        if (!temporary && batch.length > 1) {
          const half = Math.ceil(batch.length / 2);
          await this.#write(batch.slice(0, half));
          return this.#write(batch.slice(half));
        }
        const left = patienceMs() - (monotonicMs() - started);
        if (!temporary || left <= 0) {
          logger.error(
            { err: error, rows: batch.length, ids: batch.slice(0, 5).map(({ row }) => row.id) },
            'verdicts could not be written; their rows will be rescued and run again',
          );
          for (const settlement of batch) onSettled(settlement, false);
          return;
        }
        logger.debug({ err: error }, 'verdicts could not be written; retrying');
        pauseMs = Math.min(pauseMs, left);
      }
      await wait(pauseMs);
    }
  }
}
