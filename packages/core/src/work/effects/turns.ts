import { KeyGate } from '../../coordination/key-gate.ts';
import { compareTexts } from '../../database/compare-texts.ts';
import { forUpdate, quoted } from '../../database/dialect-sql.ts';
import type { SqlRunner } from '../../database/sql-runner.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { WorkTable } from '../row/work-table.ts';

/** Names and rules of the serial keys of a table. */
export interface TurnsOptions {
  /** Scope of the gates of a kind. */
  readonly scope: (kind: string) => string;
  /** Returns whether the rows of a kind can have serial keys. */
  readonly serial: (kind: string) => boolean;
  /** Column that holds the serial key of a row; NULL in a row without one. */
  readonly column: string;
  /** Serial key of a claimed row, or `null`. */
  readonly key: (row: ClaimedRow) => string | null;
}

/** A row, and the serial key whose turn it passes on; `null` for none. */
export interface TurnRow {
  readonly id: string;
  readonly kind: string;
  readonly turn: string | null;
}

const headsPerPage = 1_000;

/** The part of the keys that a repair looks at. */
export type RepairExtent = 'all' | 'part';

/** Returns whether the row that the statement reads exists and has not ended. */
async function isLive(sql: Pick<SqlRunner, 'rows'>, select: string): Promise<boolean> {
  const [row] = await sql.rows<{ ended: number }>(select);
  return row !== undefined && Number(row.ended) === 0;
}

/**
 * Turns of serial keys: of the rows of a kind with the same key, one at a time is not BLOCKED, in id order. The row that has the turn is
 * the head of the key's gate, and passes the turn on in the transaction that ends it. Lock order: a work row before its gate.
 */
export class Turns {
  readonly #table: WorkTable;
  readonly #options: TurnsOptions;
  readonly #gate: KeyGate;
  readonly #name: string;
  /** The last key of the last page that a partial repair read, by kind. */
  readonly #repairedTo = new Map<string, string>();

  constructor(table: WorkTable, options: TurnsOptions) {
    this.#table = table;
    this.#options = options;
    this.#gate = new KeyGate(table.database);
    this.#name = table.database.table(table.shape.table);
  }

  /** Returns the serial key of a claimed row, or `null`. */
  key(row: ClaimedRow): string | null {
    return this.#options.key(row);
  }

  /** Gives the turn of a key to row `id`, which the caller has locked, if the key is free. Returns whether the row has the turn. */
  async take(sql: SqlRunner, kind: string, key: string, id: string): Promise<boolean> {
    const scope = this.#options.scope(kind);
    const head = await this.#gate.lock(sql, scope, key);
    if (head === null) await this.#gate.setHead(sql, scope, key, id);
    return head === null || head === id;
  }

  /** Ends the turns of those rows that have the turn of their key, kind by kind and key by key in one order. */
  async passAll(sql: SqlRunner, rows: readonly TurnRow[]): Promise<void> {
    const turns = rows.flatMap(({ id, kind, turn }) => (turn === null ? [] : [{ id, kind, turn }]));
    for (const { id, kind, turn } of turns.sort((a, b) => compareTexts(a.kind, b.kind) || compareTexts(a.turn, b.turn)))
      await this.pass(sql, kind, turn, id);
  }

  /** Ends the turn of row `id`, if it has the turn of its key. Returns the id of the row that is next, if any. */
  pass(sql: SqlRunner, kind: string, key: string, id: string): Promise<string | undefined> {
    return this.#gate.handOn(sql, this.#options.scope(kind), key, id, () => this.#openNext(sql, kind, key));
  }

  /** Makes the lowest BLOCKED row of a key READY. Returns its id, if there was one. */
  async #openNext(sql: SqlRunner, kind: string, key: string): Promise<string | undefined> {
    const table = this.#table;
    const { database, shape } = table;
    const t = this.#name;
    const lock = forUpdate(database);
    for (;;) {
      const [next] = await sql.rows<{ id: string; status: string }>(
        `SELECT ${database.text('id')} AS id, status FROM ${t} WHERE ${shape.columns.kind} = ? AND ${this.#options.column} = ? AND status = ${table.state('blocked')} ORDER BY ${t}.id LIMIT 1${lock}`,
        [kind, key],
      );
      if (!next) return undefined;
      const opened = await sql.run(
        `UPDATE ${t} SET status = CASE WHEN run_at > {now} THEN ${table.state('scheduled')} ELSE ${table.state('ready')} END, claim_rank = ${table.rank('{now}')}, updated_at = {timestamp} WHERE id = ${BigInt(next.id)} AND ${table.pinned('blocked')}`,
      );
      if (opened === 1) return next.id;
    }
  }

  /**
   * Passes on turns whose row ended without doing so: cancelled while it ran (its lease has expired, or its worker let go),
   * changed by older code, or deleted by hand. Calls `onOpened` for each row that became READY. Returns how many turns it passed on.
   * @param extent `'all'` looks at all keys, and deletes the gates of free ones; `'part'` at one page of each kind, and the next call at the
   *   next page, so that it costs one statement for each kind however many keys there are
   * @param signal once it has aborted, the repair ends after the page in hand
   */
  async repair(kinds: readonly string[], onOpened: () => void, extent: RepairExtent = 'all', signal?: AbortSignal): Promise<number> {
    let repaired = 0;
    for (const kind of kinds) {
      if (signal?.aborted) break;
      if (!this.#options.serial(kind)) continue;
      let after: string | undefined = extent === 'part' ? this.#repairedTo.get(kind) : undefined;
      do {
        const page = await this.#heads(kind, after ?? '');
        for (const { key, head, ended } of page) if (Number(ended) === 1) repaired += await this.#repairOne(kind, key, head, onOpened);
        after = page.length < headsPerPage ? undefined : page.at(-1)?.key;
      } while (extent === 'all' && after !== undefined && !signal?.aborted);
      if (extent === 'part') {
        if (after === undefined) this.#repairedTo.delete(kind);
        else this.#repairedTo.set(kind, after);
      } else await this.#gate.purge(this.#options.scope(kind), signal);
    }
    return repaired;
  }

  /** Reads a page of gates, and whether the row at the head of each has ended. Indexes: the primary keys of both tables. */
  #heads(kind: string, after: string): Promise<readonly Head[]> {
    const { database } = this.#table;
    return database.rows<Head>(
      `SELECT g.gate_key AS ${quoted(database, 'key')}, ${database.text('g.head')} AS head, CASE WHEN ${this.#ended('t.')} OR t.id IS NULL THEN 1 ELSE 0 END AS ended FROM (${this.#gate.headsSql(headsPerPage)}) g LEFT JOIN ${this.#name} t ON t.id = g.head ORDER BY g.gate_key`,
      [this.#options.scope(kind), after],
    );
  }

  async #repairOne(kind: string, key: string, head: string, onOpened: () => void): Promise<0 | 1> {
    const { database } = this.#table;
    const select = `SELECT CASE WHEN ${this.#ended()} THEN 1 ELSE 0 END AS ended FROM ${this.#name} WHERE id = ${BigInt(head)}${forUpdate(database)}`;
    // The row is read again, with a lock: if a person has redriven it since, it keeps its turn.
    const next = await database.transaction(async (sql) => ((await isLive(sql, select)) ? null : this.pass(sql, kind, key, String(head))));
    if (next === null) return 0;
    if (next !== undefined) onOpened();
    return 1;
  }

  /** SQL: the row can't pass its turn on any more. */
  #ended(of = ''): string {
    const table = this.#table;
    return `(${of}status IN (${table.state('done')}, ${table.state('dead')}) OR (${of}status = ${table.state('cancelled')} AND (${of}lease_until IS NULL OR ${of}lease_until < {now})))`;
  }
}

interface Head {
  readonly key: string;
  readonly head: string;
  readonly ended: number | string;
}
