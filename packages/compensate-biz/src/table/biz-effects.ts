import {
  type ClaimCap,
  type ClaimedRow,
  type Database,
  forUpdate,
  KeyGate,
  type SettleHook,
  type Settlement,
  Slots,
  type SqlRunner,
  type Verdict,
  type WorkTable,
} from '@holdfast/core';
import type { BizTypes } from '../biz-type.ts';

/** A row that ended or stopped running, and the turn, slot and parent that it affects. */
export interface Leaving {
  readonly id: string;
  readonly kind: string;
  readonly outcome: Verdict['outcome'];
  /** The serial key whose turn the row passes on, or `null`. */
  readonly turn: string | null;
  /** Whether the row may occupy a slot of a capped type. */
  readonly slot: boolean;
  /** The fan-out that counts the row, or `null`. */
  readonly parent: string | null;
}

/** Counts of a fan-out's children by how they ended. */
export interface ChildCounts {
  readonly done: number;
  readonly failed: number;
  readonly cancelled: number;
}

/** Scope of the gates, and of the slots, of a type. */
export function gateScope(type: string): string {
  return `compensate-biz:${type}`;
}

/**
 * The changes that commit together with the end of a run: the turn of a serial key passes on, the slot of a capped type is freed, the
 * parent counts its child. The lock order is the same in every transaction, so that none deadlock: work row, gate, slot, count.
 */
export class BizEffects {
  readonly #database: Database;
  readonly #table: WorkTable;
  readonly #types: BizTypes;
  readonly #gate: KeyGate;
  readonly #slots: Slots;

  constructor(database: Database, table: WorkTable, types: BizTypes) {
    this.#database = database;
    this.#table = table;
    this.#types = types;
    this.#gate = new KeyGate(database);
    this.#slots = new Slots(database);
  }

  /**
   * Makes the hook of a settle. Returns `undefined` if no row has effects: a settle without a hook is one statement without a transaction.
   * @param counter names the row of counts that this caller adds to
   * @param onCounted called in the transaction with each parent whose counts changed
   */
  hook(settlements: readonly Settlement[], counter: string, onCounted: (parentId: string) => void): SettleHook | undefined {
    if (!settlements.some(({ row }) => row.payload.parentId !== null || this.admitsOthers(row))) return undefined;
    return async (sql, settled) => {
      for (const parentId of await this.settled(sql, settled, counter)) onCounted(parentId);
    };
  }

  /** Whether another row may start once this row is settled: the next row of its serial key or of its capped type. */
  admitsOthers(row: ClaimedRow): boolean {
    return row.payload.gate !== null || this.#capped(row.kind);
  }

  /** Applies the effects of settled rows. Returns the parents whose counts changed. */
  settled(sql: SqlRunner, settlements: readonly Settlement[], counter: string): Promise<string[]> {
    return this.apply(
      sql,
      settlements.map(({ row, verdict: { outcome } }) => ({
        id: row.id,
        kind: row.kind,
        outcome,
        turn: column(outcome) === undefined ? null : (row.payload.gate ?? null),
        slot: this.#capped(row.kind),
        parent: row.payload.parentId ?? null,
      })),
      counter,
    );
  }

  /** Applies the effects of rows whose own change is written. Returns the parents whose counts changed. */
  async apply(sql: SqlRunner, rows: readonly Leaving[], counter: string): Promise<string[]> {
    await this.#passTurns(sql, rows);
    await this.#freeSlots(sql, rows);
    return this.#countChildren(sql, rows, counter);
  }

  async #passTurns(sql: SqlRunner, rows: readonly Leaving[]): Promise<void> {
    const turns = rows.flatMap(({ id, kind, turn }) => (turn === null ? [] : [{ id, kind, turn }]));
    for (const { id, kind, turn } of turns.sort((a, b) => (a.turn < b.turn ? -1 : 1))) await this.passTurn(sql, kind, turn, id);
  }

  /** Ends the turn of row `id`, if it has the turn of its key. Returns the id of the row that is next, if any. */
  passTurn(sql: SqlRunner, type: string, key: string, id: string): Promise<string | undefined> {
    return this.#gate.handOn(sql, gateScope(type), key, id, () => this.#openNext(sql, type, key));
  }

  /** Makes the lowest BLOCKED row of a key READY. Returns its id, if there was one. */
  async #openNext(sql: SqlRunner, type: string, key: string): Promise<string | undefined> {
    const database = this.#database;
    const table = this.#table;
    const t = database.table('compensate_biz');
    const lock = forUpdate(database);
    for (;;) {
      const [next] = await sql.rows<{ id: string; status: string }>(
        `SELECT ${database.text('id')} AS id, status FROM ${t} WHERE biz_type = ? AND gate = ? AND status = ${table.state('blocked')} ORDER BY ${t}.id LIMIT 1${lock}`,
        [type, key],
      );
      if (!next) return undefined;
      const opened = await sql.run(
        `UPDATE ${t} SET status = CASE WHEN run_at > {now} THEN ${table.state('scheduled')} ELSE ${table.state('ready')} END, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE id = ${BigInt(next.id)} AND status = ${table.state('blocked')}`,
      );
      if (opened === 1) return next.id;
    }
  }

  async #freeSlots(sql: SqlRunner, rows: readonly Leaving[]): Promise<void> {
    const holders = new Map<string, string[]>();
    for (const { id, kind, slot } of rows) {
      if (!slot) continue;
      const ids = holders.get(kind);
      if (ids) ids.push(id);
      else holders.set(kind, [id]);
    }
    for (const [type, ids] of holders) await this.#slots.free(sql, gateScope(type), ids);
  }

  async #countChildren(sql: SqlRunner, rows: readonly Leaving[], counter: string): Promise<string[]> {
    const counts = new Map<string, { done: number; failed: number; cancelled: number }>();
    for (const { parent, outcome } of rows) {
      const name = column(outcome);
      if (parent === null || name === undefined) continue;
      const count = counts.get(parent) ?? { done: 0, failed: 0, cancelled: 0 };
      counts.set(parent, count);
      count[name] += 1;
    }
    const parents = [...counts.keys()].sort((a, b) => (a < b ? -1 : 1));
    for (const parent of parents) await this.addCounts(sql, parent, counter, counts.get(parent) ?? {});
    return parents;
  }

  /** Adds to the counts of a parent. One row per parent and worker: with a single row, all workers would wait for each other. */
  async addCounts(sql: SqlRunner, parent: string, counter: string, counts: Partial<ChildCounts>): Promise<void> {
    const mysql = this.#database.family === 'mysql';
    const t = this.#database.table('compensate_biz_fan_out_count');
    const { done = 0, failed = 0, cancelled = 0 } = counts;
    const add = (name: string, n: number): string => `${name} = ${mysql ? name : `${t}.${name}`} + ${n}`;
    const set = [add('done', done), add('failed', failed), add('cancelled', cancelled)].join(', ');
    const conflict = mysql ? 'ON DUPLICATE KEY UPDATE' : 'ON CONFLICT (parent_id, worker) DO UPDATE SET';
    await sql.run(
      `INSERT INTO ${t} (parent_id, worker, done, failed, cancelled) VALUES (${BigInt(parent)}, ?, ${done}, ${failed}, ${cancelled}) ${conflict} ${set}`,
      [counter],
    );
  }

  /** Makes the slots of those types that have a `globalConcurrency`. */
  async ensureSlots(): Promise<void> {
    for (const [type, { globalConcurrency }] of Object.entries(this.#types))
      if (globalConcurrency !== undefined) await this.#slots.ensure(gateScope(type), globalConcurrency);
  }

  /** The cap of a type across processes: each PROCESSING row occupies one of its slots, taken in the transaction of the claim. */
  cap(type: string): ClaimCap | undefined {
    if (!this.#capped(type)) return undefined;
    const scope = gateScope(type);
    return async (sql, wanted, claim) => {
      const free = await this.#slots.lockFree(sql, scope, wanted);
      if (free.length === 0) return [];
      const rows = await claim(free.length);
      const holders = rows.map((row) => row.id);
      await this.#slots.take(sql, scope, free, holders);
      return rows;
    };
  }

  /**
   * Frees slots whose row ended without doing so: cancelled while it ran (its lease has expired by now), changed by older code,
   * or deleted by hand. Returns how many.
   */
  async repairSlots(of: BizTypes = this.#types): Promise<number> {
    const database = this.#database;
    let repaired = 0;
    for (const [type, { globalConcurrency }] of Object.entries(of)) {
      if (globalConcurrency === undefined) continue;
      for (const holder of await this.#slots.holders(gateScope(type))) {
        repaired += await database.transaction(async (sql) => {
          const [row] = await sql.rows<{ live: number }>(
            `SELECT CASE WHEN status = 'PROCESSING' OR (status = 'CANCELLED' AND lease_until >= {now}) THEN 1 ELSE 0 END AS live FROM ${database.table('compensate_biz')} WHERE id = ${BigInt(holder)}${forUpdate(database)}`,
          );
          return row && Number(row.live) === 1 ? 0 : this.#slots.free(sql, gateScope(type), [holder]);
        });
      }
    }
    return repaired;
  }

  /**
   * Passes on turns whose row ended without doing so: cancelled while it ran (its lease has expired, or its worker let go),
   * changed by older code, or deleted by hand. Calls `onOpened` for each row that became READY. Returns how many turns it passed on.
   */
  async repairTurns(onOpened: () => void, of: BizTypes = this.#types): Promise<number> {
    let repaired = 0;
    for (const [type, { serial }] of Object.entries(of)) {
      if (!serial) continue;
      for (let after: string | undefined = ''; after !== undefined; ) {
        const heads: { readonly key: string; readonly head: string }[] = await this.#gate.heads(gateScope(type), after, headsPerPage);
        for (const { key, head } of heads) {
          const [row] = await this.#database.rows<{ ended: number }>(
            `SELECT CASE WHEN status IN ('SUCCESS', 'FAILED') OR (status = 'CANCELLED' AND (lease_until IS NULL OR lease_until < {now})) THEN 1 ELSE 0 END AS ended FROM ${this.#database.table('compensate_biz')} WHERE id = ${BigInt(head)}`,
          );
          if (row && Number(row.ended) === 0) continue;
          const next = await this.#database.transaction((sql) => this.passTurn(sql, type, key, String(head)));
          repaired += 1;
          if (next !== undefined) onOpened();
        }
        after = heads.length < headsPerPage ? undefined : heads.at(-1)?.key;
      }
    }
    return repaired;
  }

  #capped(type: string): boolean {
    return this.#types[type]?.globalConcurrency !== undefined;
  }
}

const headsPerPage = 500;

/** The count that a row with this outcome adds to, if the row has ended. */
function column(outcome: Verdict['outcome']): keyof ChildCounts | undefined {
  return outcome === 'done' ? 'done' : outcome === 'dead' ? 'failed' : outcome === 'cancel' ? 'cancelled' : undefined;
}
