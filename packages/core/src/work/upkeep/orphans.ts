import type { Database } from '../../database/database.ts';
import { idList } from '../row/id-list.ts';

/** The tables of a parent and of its parts, by their names without a prefix. */
export interface OrphansOptions {
  readonly table: string;
  /** The first column of the table's primary key, by which it is read. */
  readonly key: string;
  /** The column that holds the id of the parent; indexed. */
  readonly parentColumn: string;
  readonly parentTable: string;
  /** SQL over the parent `t`: it needs its parts no longer. Default: a part is an orphan only if the parent is gone. */
  readonly unneeded?: string;
}

interface Part {
  readonly at: string;
  readonly parent: string;
  readonly orphan: number | string;
}

const pageRows = 1_000;
const pagesPerSweep = 10;

/**
 * Deletes the parts of rows that are gone: deleted by hand or by older code, or ended. Each sweep reads a few pages in the order of the
 * primary key, and the next one continues, so that its cost does not depend on the size of the table.
 */
export class Orphans {
  readonly #database: Database;
  readonly #options: OrphansOptions;
  #after = '0';

  constructor(database: Database, options: OrphansOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Reads the next pages, and begins anew at the end of the table. Returns the number of rows deleted. Ends early if `signal` aborts. */
  async sweep(signal?: AbortSignal): Promise<number> {
    const database = this.#database;
    const { key, parentColumn, unneeded } = this.#options;
    const [table, parents] = [database.table(this.#options.table), database.table(this.#options.parentTable)];
    let deleted = 0;
    for (let page = 0; page < pagesPerSweep && !signal?.aborted; page++) {
      const parts = await database.rows<Part>(
        `SELECT ${database.text(`p.${key}`)} AS at, ${database.text(`p.${parentColumn}`)} AS parent, CASE WHEN t.id IS NULL${unneeded ? ` OR ${unneeded}` : ''} THEN 1 ELSE 0 END AS orphan FROM (SELECT ${[...new Set([key, parentColumn])].join(', ')} FROM ${table} WHERE ${key} > ${BigInt(this.#after)} ORDER BY ${key} LIMIT ${pageRows}) p LEFT JOIN ${parents} t ON t.id = p.${parentColumn} ORDER BY p.${key}`,
      );
      const orphaned = [...new Set(parts.flatMap(({ parent, orphan }) => (Number(orphan) === 1 ? [parent] : [])))];
      if (orphaned.length > 0) {
        const of = idList(database.family, orphaned);
        const needed = `SELECT 1 FROM ${parents} t WHERE t.id = ${parentColumn}${unneeded ? ` AND NOT (${unneeded})` : ''}`;
        deleted += await database.run(
          `DELETE FROM ${table} WHERE ${of.sql.replace(/\bid\b/, parentColumn)} AND NOT EXISTS (${needed})`,
          of.params,
        );
      }
      this.#after = parts.at(-1)?.at ?? '0';
      if (parts.length < pageRows) {
        this.#after = '0';
        break;
      }
    }
    return deleted;
  }
}
