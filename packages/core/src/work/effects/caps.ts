import { Slots } from '../../coordination/slots.ts';
import { forUpdate } from '../../database/dialect-sql.ts';
import type { SqlRunner } from '../../database/sql-runner.ts';
import type { ClaimCap } from '../row/claim-rows.ts';
import { idList } from '../row/id-list.ts';
import type { WorkTable } from '../row/work-table.ts';

/** Names and limits of the caps of a table. */
export interface CapsOptions {
  /** Scope of the slots of a kind. */
  readonly scope: (kind: string) => string;
  /** Maximum number of RUNNING rows of a kind over all processes; `undefined` for a kind without a cap. */
  readonly limit: (kind: string) => number | undefined;
}

/** A row, and whether it may occupy a slot of its kind. */
export interface SlotRow {
  readonly id: string;
  readonly kind: string;
  readonly slot: boolean;
}

/**
 * Caps that hold across processes: each RUNNING row of a capped kind occupies one of the kind's slots, takes it in the transaction of its
 * claim, and frees it in the transaction that ends its run.
 */
export class Caps {
  readonly #table: WorkTable;
  readonly #options: CapsOptions;
  readonly #slots: Slots;

  constructor(table: WorkTable, options: CapsOptions) {
    this.#table = table;
    this.#options = options;
    this.#slots = new Slots(table.database);
  }

  /** Returns whether a kind has a cap. */
  capped(kind: string): boolean {
    return this.#options.limit(kind) !== undefined;
  }

  /** Makes the slots of those kinds that have a cap. */
  async ensure(kinds: readonly string[]): Promise<void> {
    for (const kind of kinds) {
      const limit = this.#options.limit(kind);
      if (limit !== undefined) await this.#slots.ensure(this.#options.scope(kind), limit);
    }
  }

  /** Makes the cap on the claims of a kind; `undefined` for a kind without one. */
  cap(kind: string): ClaimCap | undefined {
    if (!this.capped(kind)) return undefined;
    const scope = this.#options.scope(kind);
    return async (sql, wanted, claim) => {
      const free = await this.#slots.lockFree(sql, scope, wanted);
      if (free.length === 0) return [];
      const rows = await claim(free.length);
      const holders = rows.map((row) => row.id);
      await this.#slots.take(sql, scope, free, holders);
      return rows;
    };
  }

  /** Frees the slots that these rows occupy. */
  async free(sql: SqlRunner, rows: readonly SlotRow[]): Promise<void> {
    const holders = new Map<string, string[]>();
    for (const { id, kind, slot } of rows) {
      if (!slot) continue;
      const ids = holders.get(kind);
      if (ids) ids.push(id);
      else holders.set(kind, [id]);
    }
    for (const [kind, ids] of holders) await this.#slots.free(sql, this.#options.scope(kind), ids);
  }

  /**
   * Frees slots whose row ended without doing so: cancelled while it ran (its lease has expired by now), changed by older code,
   * or deleted by hand. Returns how many.
   */
  async repair(kinds: readonly string[], signal?: AbortSignal): Promise<number> {
    const table = this.#table;
    const { database, shape } = table;
    const live = `status = ${table.state('running')} OR (status = ${table.state('cancelled')} AND lease_until >= {now})`;
    const t = database.table(shape.table);
    let repaired = 0;
    for (const kind of kinds) {
      if (!this.capped(kind)) continue;
      const scope = this.#options.scope(kind);
      const holders = await this.#slots.holders(scope);
      if (holders.length === 0) continue;
      // All at once, without locks: as a rule every holder runs.
      const ids = idList(database.family, holders);
      const running = await database.rows<{ id: string }>(
        `SELECT ${database.text('id')} AS id FROM ${t}${database.primaryKeyHint} WHERE ${ids.sql} AND (${live})`,
        ids.params,
      );
      const fine = new Set(running.map((row) => row.id));
      for (const holder of holders) {
        if (signal?.aborted) return repaired;
        if (fine.has(holder)) continue;
        repaired += await database.transaction(async (sql) => {
          const [row] = await sql.rows<{ live: number }>(
            `SELECT CASE WHEN ${live} THEN 1 ELSE 0 END AS live FROM ${t} WHERE id = ${BigInt(holder)}${forUpdate(database)}`,
          );
          return row && Number(row.live) === 1 ? 0 : this.#slots.free(sql, scope, [holder]);
        });
      }
    }
    return repaired;
  }
}
