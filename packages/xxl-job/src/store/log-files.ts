import { appendFile, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogLines, LogStore } from './log-store.ts';

/** Logs in a folder, one file each. */
export class LogFiles implements LogStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async append(logId: string, lines: readonly string[]): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await appendFile(this.#file(logId), lines.map((line) => `${line}\n`).join(''));
  }

  async read(logId: string, from: number, most: number): Promise<LogLines> {
    const text = await readFile(this.#file(logId), 'utf8').catch(() => '');
    const all = text === '' ? [] : text.trimEnd().split('\n');
    return { lines: all.slice(from - 1, from - 1 + most), total: all.length };
  }

  async purge(days: number, signal?: AbortSignal): Promise<void> {
    const now = Date.parse(new Date().toISOString());
    for (const name of await readdir(this.#folder).catch(() => [])) {
      if (signal?.aborted) return;
      const file = join(this.#folder, name);
      const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: now }));
      if (name.endsWith('.log') && now - mtimeMs > days * 86_400_000) await rm(file, { force: true });
    }
  }

  #file(logId: string): string {
    return join(this.#folder, `${logId}.log`);
  }
}
