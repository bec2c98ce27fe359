import type { SqlRunner } from '../../database/sql-runner.ts';
import type { SettleHook, Settlement } from '../row/settle-rows.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { Outcome } from '../row/verdict.ts';
import type { Caps } from './caps.ts';
import { type Children, countOf } from './children.ts';
import type { RepairExtent, Turns } from './turns.ts';

/** A row that ended or stopped running, and the turn, slot and parent that it affects. */
export interface StoppedRow {
  readonly id: string;
  readonly kind: string;
  readonly outcome: Outcome;
  /** The serial key whose turn the row passes on, or `null`. */
  readonly turn: string | null;
  /** True if the row may occupy a slot of a capped kind. */
  readonly slot: boolean;
  /** The parent that counts the row, or `null`. */
  readonly parent: string | null;
}

/** The effects that a table has; each may be left out. */
export interface SettleEffectsOptions {
  readonly turns?: Turns;
  readonly caps?: Caps;
  readonly children?: Children;
}

/**
 * The changes that commit together with the end of a run: the turn of a serial key passes on, the slot of a capped kind is freed, the
 * parent counts its child. The lock order is the same in every transaction, so that none deadlock: work row, gate, slot, count.
 */
export class SettleEffects {
  readonly #turns: Turns | undefined;
  readonly #caps: Caps | undefined;
  readonly #children: Children | undefined;

  constructor({ turns, caps, children }: SettleEffectsOptions) {
    this.#turns = turns;
    this.#caps = caps;
    this.#children = children;
  }

  /**
   * Makes the hook of a settle. Returns `undefined` if no row has effects: a settle without a hook is one statement without a transaction.
   * @param counter names the row of counts that this caller adds to
   * @param onCounted called in the transaction with each parent whose counts changed
   */
  hook(settlements: readonly Settlement[], counter: string, onCounted: (parentId: string) => void): SettleHook | undefined {
    if (!settlements.some(({ row }) => this.#parent(row) !== null || this.admitsOthers(row))) return undefined;
    return async (sql, settled) => {
      for (const parentId of await this.settled(sql, settled, counter)) onCounted(parentId);
    };
  }

  /** Returns whether another row may start once this row is settled: the next row of its serial key or of its capped kind. */
  admitsOthers(row: ClaimedRow): boolean {
    return this.#turn(row) !== null || this.#capped(row.kind);
  }

  /** Applies the effects of settled rows. Returns the parents whose counts changed. */
  settled(sql: SqlRunner, settlements: readonly Settlement[], counter: string): Promise<string[]> {
    return this.apply(
      sql,
      settlements.map(({ row, verdict: { outcome } }) => ({
        id: row.id,
        kind: row.kind,
        outcome,
        turn: countOf(outcome) === undefined ? null : this.#turn(row),
        slot: this.#capped(row.kind),
        parent: this.#parent(row),
      })),
      counter,
    );
  }

  /** Applies the effects of rows whose own change is written. Returns the parents whose counts changed. */
  async apply(sql: SqlRunner, rows: readonly StoppedRow[], counter: string): Promise<string[]> {
    await this.#turns?.passAll(sql, rows);
    await this.#caps?.free(sql, rows);
    return (await this.#children?.count(sql, rows, counter)) ?? [];
  }

  /** Passes on turns and frees slots of these kinds whose row ended without doing so: see {@link Turns.repair}. Returns how many. */
  async repair(kinds: readonly string[], onOpened: () => void, extent: RepairExtent = 'all', signal?: AbortSignal): Promise<number> {
    const turns = (await this.#turns?.repair(kinds, onOpened, extent, signal)) ?? 0;
    return turns + ((await this.#caps?.repair(kinds, signal)) ?? 0);
  }

  #turn(row: ClaimedRow): string | null {
    return this.#turns?.key(row) ?? null;
  }

  #capped(kind: string): boolean {
    return this.#caps?.capped(kind) ?? false;
  }

  #parent(row: ClaimedRow): string | null {
    return this.#children?.parent(row) ?? null;
  }
}
