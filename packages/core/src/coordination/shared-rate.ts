import type { Database } from '../database/database.ts';
import { forUpdate } from '../database/dialect-sql.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { RateWindow, type Starts } from './rate-window.ts';

/** The largest number of starts in a period. */
export interface RateOptions {
  readonly limit: number;
  readonly perMs: number;
}

interface RateRecord {
  readonly earlier: string;
  readonly last_at: string | number;
  readonly last_count: string | number;
  readonly now_ms: string | number;
}

/** A process that has found a rate used up asks again after this time at the latest, in ms, since others may have raised the limit. */
const maxQuietMs = 1_000;
/** Starts further in the future than this, in ms, were recorded by a clock that was set back since: they count as starts of now. */
const maxAheadMs = 60_000;

/**
 * A rate that holds across processes: in no period are there more starts than the limit, by the database's clock. The row of the rate is
 * locked while work is started under it, so that what starts and what counts commit together, and what does not start does not count.
 */
export class SharedRate {
  readonly #database: Database;
  readonly #table: string;
  readonly #scope: string;
  readonly #name: string;
  readonly #options: RateOptions;
  /** On the monotonic clock. Until then nothing may start, and the database is not asked. */
  #usedUpUntil = 0;

  constructor(database: Database, scope: string, name: string, options: RateOptions) {
    this.#database = database;
    this.#table = database.table('holdfast_rate');
    this.#scope = scope;
    this.#name = name;
    this.#options = options;
  }

  /** False if this process knows that nothing may start now. */
  get open(): boolean {
    return monotonicMs() >= this.#usedUpUntil;
  }

  /**
   * Calls `start` with the number of `wanted` that may start, and counts what it returns. `sql` must be a transaction, in which `start` works
   * too: other processes wait for its end. Does not call `start` if nothing may start.
   */
  async within<Started>(
    sql: SqlRunner,
    wanted: number,
    start: (limit: number) => Promise<readonly Started[]>,
  ): Promise<readonly Started[]> {
    const record = await this.#lock(sql);
    // Read as the statement began, perhaps before its wait for the lock: then a little less may start than could.
    const nowMs = Number(record.now_ms);
    const { starts, setBack } = startsOf(record, nowMs);
    const window = new RateWindow(this.#options.limit, this.#options.perMs, starts);
    const limit = Math.min(wanted, window.free(nowMs));
    if (limit < 1) {
      this.#usedUpUntil = monotonicMs() + Math.min(window.waitMs(nowMs), maxQuietMs);
      // They count as starts of now once: if they stayed as they are, they would be starts of now at each question.
      if (setBack) await this.#write(sql, window, 0);
      return [];
    }
    const started = await start(limit);
    if (started.length === 0) return started;
    await this.#write(sql, window, started.length);
    return started;
  }

  /** Stores the starts before now, and so many of now. The time is that of this statement: a start must not seem earlier than it was. */
  async #write(sql: SqlRunner, before: RateWindow, now: number): Promise<void> {
    await sql.run(`UPDATE ${this.#table} SET earlier = ?, last_at = {now}, last_count = ? WHERE scope = ? AND name = ?`, [
      JSON.stringify(before.moments),
      now,
      this.#scope,
      this.#name,
    ]);
  }

  async #lock(sql: SqlRunner): Promise<RateRecord> {
    for (;;) {
      const [record] = await sql.rows<RateRecord>(
        `SELECT earlier, ${this.#database.text('last_at')} AS last_at, last_count, {now} AS now_ms FROM ${this.#table} WHERE scope = ? AND name = ?${forUpdate(this.#database)}`,
        [this.#scope, this.#name],
      );
      if (record) return record;
      await sql.run(insertIgnore(this.#database, this.#table, ['scope', 'name']), [this.#scope, this.#name]);
    }
  }
}

/** The starts on record, and whether some of them were recorded by a clock that was set back since. */
function startsOf({ earlier, last_at, last_count }: RateRecord, nowMs: number): { readonly starts: Starts[]; readonly setBack: boolean } {
  const window = new RateWindow(1, 1, earlier === '' ? [] : (JSON.parse(earlier) as Starts[]));
  window.add(Number(last_at), Number(last_count));
  const ahead = (at: number): boolean => at > nowMs + maxAheadMs;
  return {
    starts: window.moments.map(([at, count]): Starts => [ahead(at) ? nowMs : at, count]),
    setBack: window.moments.some(([at]) => ahead(at)),
  };
}
