import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Logger, monotonicMs } from '@holdfast/core';
import { idOf } from '../admin/exact-json.ts';
import type { JobEnd } from '../admin/protocol.ts';
import type { EndStore, StoredEnd } from './end-store.ts';

interface Refusals {
  readonly count: number;
  /** On the monotonic clock. */
  readonly dueAt: number;
}

/** Ends in a folder, one file each, which no other executor may use. */
export class EndFiles implements EndStore {
  readonly #folder: string;
  readonly #logger: Logger;
  /** In memory: after a restart, each is tried once more. */
  readonly #refusals = new Map<string, Refusals>();

  constructor(folder: string, logger: Logger) {
    this.#folder = folder;
    this.#logger = logger;
  }

  async add(end: JobEnd): Promise<void> {
    const file = join(this.#folder, end.logId);
    await mkdir(this.#folder, { recursive: true });
    // The rename keeps a half-written file from being read if the process dies.
    await writeFile(`${file}.tmp`, JSON.stringify(end));
    await rename(`${file}.tmp`, `${file}.json`);
  }

  async due(most: number): Promise<readonly StoredEnd[]> {
    const now = monotonicMs();
    const names = (await this.#names())
      .filter((name) => (this.#refusals.get(name)?.dueAt ?? 0) <= now)
      .sort((a, b) => (this.#refusals.get(a)?.count ?? 0) - (this.#refusals.get(b)?.count ?? 0))
      .slice(0, most);
    const ends = await Promise.all(names.map((name) => this.#read(name)));
    return ends.filter((end) => end !== undefined);
  }

  async remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      this.#refusals.delete(id);
      await rm(join(this.#folder, id), { force: true });
    }
  }

  async refused(id: string, ms: number): Promise<void> {
    this.#refusals.set(id, { count: (this.#refusals.get(id)?.count ?? 0) + 1, dueAt: monotonicMs() + ms });
  }

  async purge(days: number, signal?: AbortSignal): Promise<number> {
    const now = Date.parse(new Date().toISOString());
    let old = 0;
    for (const name of await this.#names()) {
      if (signal?.aborted) break;
      const { mtimeMs } = await stat(join(this.#folder, name)).catch(() => ({ mtimeMs: now }));
      if (now - mtimeMs <= days * 86_400_000) continue;
      await this.remove([name]);
      old += 1;
    }
    return old;
  }

  async #names(): Promise<string[]> {
    return (await readdir(this.#folder).catch(() => [])).filter((name) => name.endsWith('.json'));
  }

  /** Reads a stored end. A broken file, as a loss of power leaves it, is renamed so that it does not block the others. */
  async #read(name: string): Promise<StoredEnd | undefined> {
    const file = join(this.#folder, name);
    try {
      const end = JSON.parse(await readFile(file, 'utf8')) as JobEnd;
      // Earlier versions stored the id as a number.
      return { id: name, end: { ...end, logId: idOf(end, 'logId') }, refusals: this.#refusals.get(name)?.count ?? 0 };
    } catch (err) {
      this.#logger.error({ err, file }, 'a stored job end can not be read; it will not be reported to the admin');
      await rename(file, `${file}.broken`);
      return undefined;
    }
  }
}
