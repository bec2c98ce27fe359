import type { WorkState } from './states.ts';
import type { TableSql } from './table-sql.ts';

/** The ended rows of a kind to delete. */
export interface PurgeQuery {
  readonly kind: string;
  /** A state in which rows end: `done`, `dead` or `cancelled`. */
  readonly state: WorkState;
  /** Only rows that last changed longer ago than this, in ms. */
  readonly olderThanMs: number;
  /** SQL that is true for a row `t` that stays for now. Once it is false for a row, it stays false. */
  readonly unless?: string | undefined;
  /**
   * SQL that is true for a row `t` that stays for good. Such rows, as many as there may be, should have the lowest ids: the purge begins behind
   * them.
   */
  readonly keep?: string | undefined;
  /** Once it has aborted, the purge ends after the page in hand; the next one reads that part again. */
  readonly signal?: AbortSignal | undefined;
}

const pageRows = 1_000;
/** Pages without an old row that one call reads beyond those at the start. */
const furtherPages = 5;

interface PageRow {
  readonly id: string;
  readonly old: number | string;
}

/**
 * Deletes ended rows by age, with their attempts. Rows end in about the order of their ids, so the old ones stand first in the index on
 * `(kind, id)` of the state: it reads from there until a page has no old row, and so the rows that are kept cost nothing. An old row behind many
 * younger ones (they were delayed, or redriven) is found by a few further pages, which each call reads where the last one stopped.
 */
export class RowPurge {
  readonly #work: TableSql;
  /** The id after which the further pages begin, by kind and state. */
  readonly #furtherAfter = new Map<string, string>();

  constructor(work: TableSql) {
    this.#work = work;
  }

  /** Deletes the rows. Returns their number. */
  async purge(query: PurgeQuery): Promise<number> {
    const key = `${query.state} ${query.kind}`;
    const first = await this.#read(query, await this.#start(query), 1);
    if (first.next === undefined) {
      this.#furtherAfter.delete(key);
      return first.deleted;
    }
    if (query.signal?.aborted) return first.deleted;
    const known = this.#furtherAfter.get(key);
    const from = known === undefined || BigInt(known) < BigInt(first.next) ? first.next : known;
    const further = await this.#read(query, from, furtherPages);
    if (further.next === undefined) this.#furtherAfter.delete(key);
    else this.#furtherAfter.set(key, further.next);
    return first.deleted + further.deleted;
  }

  /** SQL: the row has ended in the state, and is of the kind, which is the parameter. */
  #ended({ state }: PurgeQuery): string {
    return `${this.#work.ended(state)} AND ${this.#work.shape.columns.kind} = ?`;
  }

  /**
   * The id after which the first page begins: behind the rows that stay for good. It is searched for by halves, one row of the index each, so
   * that fifty million of them cost about as little as ten. Rows to delete that stand among them are found by the further pages.
   */
  async #start(query: PurgeQuery): Promise<string> {
    const { keep } = query;
    if (keep === undefined) return '0';
    const { database, table, idText } = this.#work;
    const row = async (where: string, order = ''): Promise<{ readonly id: bigint; readonly stays: boolean } | undefined> => {
      const [found] = await database.rows<{ id: string; stays: number | string }>(
        `SELECT ${idText}, CASE WHEN ${keep} THEN 1 ELSE 0 END AS stays FROM ${table} t WHERE ${this.#ended(query)}${where} ORDER BY t.id${order} LIMIT 1`,
        [query.kind],
      );
      return found && { id: BigInt(found.id), stays: Number(found.stays) === 1 };
    };
    const first = await row('');
    if (!first?.stays) return '0';
    const last = await row('', ' DESC');
    let low = first.id;
    let high = last?.id ?? low;
    while (high > low) {
      const middle = low + (high - low) / 2n;
      const found = await row(` AND t.id > ${middle}`);
      if (found?.stays) low = found.id;
      else high = middle;
    }
    return String(low);
  }

  /** Reads pages after an id until `quiet` of them had no old row. Returns the id to continue after, or `undefined` at the end. */
  async #read(query: PurgeQuery, after: string, quiet: number): Promise<{ readonly deleted: number; readonly next: string | undefined }> {
    const work = this.#work;
    const { database, table } = work;
    const status = this.#ended(query);
    const stays = [query.unless, query.keep].filter((sql) => sql !== undefined);
    const unless = stays.map((sql) => ` AND NOT (${sql})`).join('');
    let deleted = 0;
    for (let next = after, left = quiet; left > 0 && !query.signal?.aborted; ) {
      const page = await database.rows<PageRow>(
        `SELECT ${work.idText}, CASE WHEN updated_at < ${work.ago(query.olderThanMs)}${unless} THEN 1 ELSE 0 END AS old FROM ${table} t WHERE ${status} AND t.id > ${BigInt(next)} ORDER BY t.id LIMIT ${pageRows}`,
        [query.kind],
      );
      const old = page.filter((row) => Number(row.old) === 1).map((row) => row.id);
      if (old.length > 0) deleted += await this.#delete(query, old);
      else left -= 1;
      const last = page.at(-1)?.id;
      if (page.length < pageRows || last === undefined) return { deleted, next: undefined };
      next = last;
      if (left === 0) return { deleted, next };
    }
    return { deleted, next: after };
  }

  /** Deletes those of the rows that are still ended and old, by primary key. */
  #delete({ kind, state, olderThanMs }: PurgeQuery, old: readonly string[]): Promise<number> {
    const work = this.#work;
    const { database, table } = work;
    const ids = work.ids(old);
    const still = `${work.pinned(state)} AND ${work.shape.columns.kind} = ? AND updated_at < ${work.ago(olderThanMs)}`;
    return database.transaction(async (sql) => {
      const gone = await sql.run(`${database.deleteByPrimaryKey(table)} WHERE ${ids.sql} AND ${still}`, [...ids.params, kind]);
      if (work.attempts === undefined) return gone;
      const attempts = `DELETE FROM ${work.attempts} WHERE ${ids.sql.replace(/\bid\b/, 'task_id')}`;
      await sql.run(`${attempts} AND NOT EXISTS (SELECT 1 FROM ${table} t WHERE t.id = task_id)`, ids.params);
      return gone;
    });
  }
}
