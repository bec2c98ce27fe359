import { appendFile, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** A part of a run's log, as the admin reads it. */
export interface LogPart {
  readonly fromLineNum: number;
  readonly toLineNum: number;
  readonly logContent: string;
  readonly isEnd: boolean;
}

const maxLines = 1_000;

/** The logs of runs, one file each, so that the admin can show them, also after a restart. */
export class JobLog {
  readonly #folder: string;
  /** The last write of each log, behind which the next one waits. */
  readonly #writing = new Map<string, Promise<void>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  append(logId: string, text: string): void {
    const time = new Date().toISOString().replace('T', ' ').slice(0, 23);
    const lines = text.split('\n').map((line) => `${time} ${line}\n`);
    const before = this.#writing.get(logId) ?? mkdir(this.#folder, { recursive: true }).then(() => undefined);
    const after = before.then(() => appendFile(this.#file(logId), lines.join(''))).catch(() => undefined);
    this.#writing.set(logId, after);
    void after.then(() => {
      if (this.#writing.get(logId) === after) this.#writing.delete(logId);
    });
  }

  /** Reads lines from `fromLineNum`, which counts from 1. `isEnd` is true when the run has ended and its last line was read. */
  async read(logId: string, fromLineNum: number, ended: boolean): Promise<LogPart> {
    await this.#writing.get(logId);
    const from = Math.max(1, fromLineNum);
    const text = await readFile(this.#file(logId), 'utf8').catch(() => '');
    const lines = text === '' ? [] : text.trimEnd().split('\n');
    const part = lines.slice(from - 1, from - 1 + maxLines);
    const toLineNum = from - 1 + part.length;
    return {
      fromLineNum: from,
      toLineNum,
      logContent: part.map((line) => `${line}\n`).join(''),
      isEnd: ended && toLineNum >= lines.length,
    };
  }

  /** Deletes logs to which nothing was written for `days`. */
  async purge(days: number, nowMs: number): Promise<void> {
    for (const name of await readdir(this.#folder).catch(() => [])) {
      const file = join(this.#folder, name);
      const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: nowMs }));
      if (name.endsWith('.log') && nowMs - mtimeMs > days * 86_400_000) await rm(file, { force: true });
    }
  }

  /** Resolves when all lines are written. */
  async flush(): Promise<void> {
    await Promise.all(this.#writing.values());
  }

  #file(logId: string): string {
    return join(this.#folder, `${logId}.log`);
  }
}
