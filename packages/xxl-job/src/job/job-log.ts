import { InvalidArgumentError, type Logger } from '@holdfast/core';
import type { LogStore } from '../store/log-store.ts';

/** A part of a run's log, as the admin reads it. */
export interface LogPart {
  readonly fromLineNum: number;
  readonly toLineNum: number;
  readonly logContent: string;
  readonly isEnd: boolean;
}

/** Lines that one answer to an admin holds. */
const maxLines = 1_000;

/**
 * Writes a time as `2026-11-30 17:35:28`: the Swedish form is that of ISO 8601. Default: the time zone of this process.
 * @throws InvalidArgumentError for a time zone that is not known
 */
export function logClock(timeZone: string | undefined): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('sv-SE', { ...(timeZone === undefined ? {} : { timeZone }), dateStyle: 'short', timeStyle: 'medium' });
  } catch (cause) {
    throw new InvalidArgumentError(
      `timeZone is ${JSON.stringify(timeZone)}, which is not a known time zone; give one such as 'Asia/Shanghai'.`,
      cause,
    );
  }
}

/** The logs of runs: each line with its time, in the order in which it was logged. */
export class JobLog {
  readonly #store: LogStore;
  readonly #logger: Logger;
  readonly #clock: Intl.DateTimeFormat;
  /** The last write of each log, behind which the next one waits. */
  readonly #writing = new Map<string, Promise<void>>();
  /** Lines that the write behind the one in progress takes together. */
  readonly #waiting = new Map<string, string[]>();

  /** @param clock made by {@link logClock} */
  constructor(store: LogStore, clock: Intl.DateTimeFormat, logger: Logger) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
  }

  append(logId: string, text: string): void {
    const now = new Date();
    const time = `${this.#clock.format(now)}.${String(now.getUTCMilliseconds()).padStart(3, '0')}`;
    const lines = text.split('\n').map((line) => `${time} ${line}`);
    const waiting = this.#waiting.get(logId);
    if (waiting) {
      waiting.push(...lines);
      return;
    }
    this.#waiting.set(logId, lines);
    const before = this.#writing.get(logId) ?? Promise.resolve();
    const after = before
      .then(() => {
        this.#waiting.delete(logId);
        return this.#store.append(logId, lines);
      })
      .catch((err) => this.#logger.warn({ err, logId }, 'lines of the log of a run could not be stored; the admin will not show them'));
    this.#writing.set(logId, after);
    void after.then(() => {
      if (this.#writing.get(logId) === after) this.#writing.delete(logId);
    });
  }

  /** Reads lines from `fromLineNum`, which counts from 1. `isEnd` is true when the run has ended and its last line was read. */
  async read(logId: string, fromLineNum: number, ended: boolean): Promise<LogPart> {
    await this.#writing.get(logId);
    const { lines, total } = await this.#store.read(logId, fromLineNum, maxLines);
    const toLineNum = fromLineNum - 1 + lines.length;
    return {
      fromLineNum,
      toLineNum,
      logContent: lines.map((line) => `${line}\n`).join(''),
      isEnd: ended && toLineNum >= total,
    };
  }

  purge(days: number, signal?: AbortSignal): Promise<void> {
    return this.#store.purge(days, signal);
  }

  /** Resolves when all lines are written. */
  async flush(): Promise<void> {
    await Promise.all(this.#writing.values());
  }
}
