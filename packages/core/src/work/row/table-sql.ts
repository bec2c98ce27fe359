import type { Database } from '../../database/database.ts';
import { type IdList, idList } from './id-list.ts';
import type { WorkState } from './states.ts';

/** Names of a claimable table's parts. The remaining claim columns have the same names everywhere. */
export interface WorkTableShape {
  readonly table: string;
  /** Where failed and lost attempts are kept, one row each; nowhere without it. */
  readonly attemptTable?: string;
  readonly columns: { readonly kind: string; readonly group: string; readonly attempts: string; readonly error: string };
  /** Further columns that a claim returns, with the SQL that reads them. */
  readonly payload: Readonly<Record<string, string>>;
  /** How each state is written in `status`. They become literals in SQL, so that partial indexes match. */
  readonly states: Readonly<Record<WorkState, string>>;
  /** How many ms of waiting one step of priority is worth. */
  readonly agingStepMs: number;
}

/** A row as claimed. */
export interface ClaimedRow {
  readonly id: string;
  readonly version: number;
  readonly kind: string;
  readonly group: string;
  /** Starts in all, this one included. */
  readonly starts: number;
  /** Starts with no verdict before this one. */
  readonly lost: number;
  /** Failed attempts so far. */
  readonly attempts: number;
  readonly payload: Readonly<Record<string, string | null>>;
}

/** A row as the drivers return it. */
export type WorkRecord = Record<string, string | number | null>;

/** Of rows that were asked for by both: 3% more rows a second than to have them come back with each. */
export interface KindAndGroup {
  readonly kind: string;
  readonly group: string;
}

/** The pieces that the statements over one claimable table are made of. */
export class TableSql {
  readonly database: Database;
  readonly shape: WorkTableShape;
  readonly table: string;
  readonly attempts: string | undefined;
  readonly #payload: readonly (readonly [name: string, column: string, sql: string])[];

  constructor(database: Database, shape: WorkTableShape) {
    this.database = database;
    this.shape = shape;
    this.table = database.table(shape.table);
    this.attempts = shape.attemptTable === undefined ? undefined : database.table(shape.attemptTable);
    this.#payload = Object.entries(shape.payload).map(([name, sql]) => [name, `p_${name.toLowerCase()}`, sql]);
  }

  /** SQL literal of a state. */
  state(state: WorkState): string {
    return `'${this.shape.states[state]}'`;
  }

  /**
   * A comparison of the status that no index can serve, so that the plan stays on the primary key: statistics taken when
   * every row was READY call the lease index empty, and walking it for each batch ran at 5k rows/s instead of 138k.
   */
  pinned(state: WorkState): string {
    return this.database.family === 'mysql' ? `status = ${this.state(state)}` : `status || '' = ${this.state(state)}`;
  }

  /** The rank of a row that becomes READY at `readyAt` (SQL, in ms): lower is claimed first. */
  rank(readyAt: string): string {
    return `${readyAt} - COALESCE(priority, 0) * ${this.shape.agingStepMs}`;
  }

  get idText(): string {
    return `${this.database.text('id')} AS id`;
  }

  ids(ids: readonly string[]): IdList {
    return idList(this.database.family, ids);
  }

  /**
   * Ids of rows, read without locks. On MySQL and MariaDB a locking scan locks each row that it passes for a moment, and
   * claims skip it: so what runs every other second looks first, and then locks by id what it found.
   */
  async look(where: string, params: readonly unknown[], tail: string): Promise<string[]> {
    const rows = await this.database.rows<{ id: string }>(`SELECT ${this.idText} FROM ${this.table} WHERE ${where} ${tail}`, params);
    return rows.map((row) => row.id);
  }

  /** `now() - ms` in the type of the date-time columns, in the connection's own time zone. */
  ago(ms: number): string {
    const whole = Math.trunc(ms);
    if (this.database.family === 'postgres') return `now() - interval '${whole} milliseconds'`;
    if (this.database.family === 'sqlite') return `strftime('%Y-%m-%d %H:%M:%f', 'now', '-${(whole / 1000).toFixed(3)} seconds')`;
    return `CURRENT_TIMESTAMP(3) - INTERVAL ${whole * 1000} MICROSECOND`;
  }

  /** What a claim reads; `ahead` when the statement reads the row before its own update, `known` when kind and group are. */
  columns(ahead: 0 | 1 = 0, known?: KindAndGroup): string {
    const { kind, group, attempts } = this.shape.columns;
    const plus = ahead === 0 ? '' : ' + 1';
    return [
      this.idText,
      `version${plus} AS version`,
      ...(known ? [] : [`${kind} AS kind`, `${group} AS grp`]),
      `starts${plus} AS starts`,
      `lost${plus} AS lost`,
      `${attempts} AS attempts`,
      ...this.#payload.map(([, column, sql]) => `${sql} AS ${column}`),
    ].join(', ');
  }

  /** A record as a row; `counted` when its own start is in `lost` already. */
  row(record: WorkRecord, counted: 0 | 1 = 1, known?: KindAndGroup): ClaimedRow {
    const payload: Record<string, string | null> = {};
    for (const [name, column] of this.#payload) {
      const value = record[column];
      payload[name] = value === null || value === undefined || typeof value === 'string' ? (value ?? null) : String(value);
    }
    return {
      id: String(record.id),
      version: Number(record.version),
      kind: known?.kind ?? String(record.kind),
      group: known?.group ?? String(record.grp),
      starts: Number(record.starts),
      lost: Number(record.lost) - counted,
      attempts: Number(record.attempts),
      payload,
    };
  }
}

/** A decimal id as an SQL literal: never a JavaScript number, which rounds above 2^53. */
export function integer(id: string): string {
  if (!/^\d{1,20}$/.test(id)) throw new TypeError(`not an id: ${id}`);
  return id;
}
