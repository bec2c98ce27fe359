import type { Database } from '../../database/database.ts';
import { type IdList, idList } from './id-list.ts';
import type { WorkState } from './states.ts';

/** The names of the parts of a claimable table. The other claim columns have the same names in every table. */
export interface WorkTableShape {
  /** Without prefix and quotes. */
  readonly table: string;
  /** The table for failed and lost attempts, one row each. Without it they are not kept. */
  readonly attemptTable?: string;
  readonly columns: {
    readonly kind: string;
    readonly group: string;
    readonly attempts: string;
    readonly error: string;
    /** For what a run returns, as JSON; NULL if there is nothing. Without it no result is kept. */
    readonly result?: string;
    /** For what a run reports while it is under way, as JSON. Without it nothing can be reported. */
    readonly progress?: string;
  };
  /** Further columns that a claim returns, with the SQL that reads them. */
  readonly payload: Readonly<Record<string, string>>;
  /** The value of each state in the column `status`. The values become literals in SQL, so that partial indexes match. */
  readonly states: Readonly<Record<WorkState, string>>;
  /**
   * MySQL, MariaDB: whether the table has two generated columns and one index on `(due_at, ended_status, kind)`, which does what partial indexes
   * do elsewhere. `due_at` is the `run_at` of a SCHEDULED row (the greatest number if it has none) and NULL in other rows; `ended_status` is the
   * status of an ended row and NULL in others.
   */
  readonly generated?: boolean;
  /** MySQL, MariaDB: the name of the index of READY rows. */
  readonly readyIndex?: string;
  /** One step of priority counts as this many ms of waiting. */
  readonly agingStepMs: number;
}

/** A row that was claimed. */
export interface ClaimedRow {
  readonly id: string;
  readonly version: number;
  readonly kind: string;
  readonly group: string;
  /** The number of starts, this one included. */
  readonly starts: number;
  /** The number of starts in a row before this one that got no verdict. */
  readonly lost: number;
  /** The number of failed attempts so far. */
  readonly attempts: number;
  /** Rows of lower rank are claimed first. */
  readonly rank: number;
  readonly payload: Readonly<Record<string, string | null>>;
}

/** A row as the drivers return it. */
export type WorkRecord = Record<string, string | number | null>;

/** Kind and group, where a statement asks for both. Not returning them with each row gives 3% more rows a second. */
export interface KindAndGroup {
  readonly kind: string;
  readonly group: string;
}

/** The parts of the SQL statements for one claimable table. */
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

  /** The SQL literal of a state. */
  state(state: WorkState): string {
    return `'${this.shape.states[state]}'`;
  }

  /**
   * The condition that a row ended in a state, in the words of the index by which ended rows are found. `t` is the alias of the table, with its
   * dot.
   */
  ended(state: WorkState, t: string = ''): string {
    return this.shape.generated ? `${t}due_at IS NULL AND ${t}ended_status = ${this.state(state)}` : `${t}status = ${this.state(state)}`;
  }

  /** SCHEDULED rows in the words of their index, and the column with the time at which they are due. */
  get scheduled(): { readonly where: string; readonly due: string } {
    return this.shape.generated
      ? { where: 'due_at IS NOT NULL', due: 'due_at' }
      : { where: `status = ${this.state('scheduled')}`, due: 'run_at' };
  }

  /**
   * A comparison of the status for which no index can be used, so that the plan stays on the primary key. With statistics from a time when
   * every row was READY, the server takes the lease index for empty; to scan it for each batch gave 5k rows/s instead of 138k.
   */
  pinned(state: WorkState): string {
    return this.database.family === 'mysql' ? `status = ${this.state(state)}` : `status || '' = ${this.state(state)}`;
  }

  /** An index hint for a part of a UNION that reads the first READY row: MariaDB takes any index there, and sorts. */
  get readyHint(): string {
    return this.database.family === 'mysql' && this.shape.readyIndex !== undefined ? ` FORCE INDEX (${this.shape.readyIndex})` : '';
  }

  /** The rank of a row that becomes READY at `readyAt` (SQL, in ms): lower is claimed first. */
  rank(readyAt: string): string {
    return `${readyAt} - COALESCE(priority, 0) * ${this.shape.agingStepMs}`;
  }

  /** The id as text, named `id`: for the columns of a SELECT or of RETURNING. */
  get idText(): string {
    return `${this.database.text('id')} AS id`;
  }

  /** The condition that a row has one of these ids. */
  ids(ids: readonly string[]): IdList {
    return idList(this.database.family, ids);
  }

  /**
   * Reads ids of rows without locks. On MySQL and MariaDB a locking scan locks each row that it passes for a moment, and claims skip those
   * rows. So a statement that runs every few seconds first reads ids here, and then locks the rows by their ids.
   */
  async readIds(where: string, params: readonly unknown[], tail: string): Promise<string[]> {
    const rows = await this.database.rows<{ id: string }>(`SELECT ${this.idText} FROM ${this.table} WHERE ${where} ${tail}`, params);
    return rows.map((row) => row.id);
  }

  /** SQL for the time `ms` ago, in the type of the date-time columns and the time zone of the connection. Moves with the database's clock. */
  ago(ms: number): string {
    const whole = Math.trunc(ms) - this.database.clockOffsetMs;
    if (this.database.family === 'postgres') return `now() - interval '${whole} milliseconds'`;
    if (this.database.family === 'sqlite') return `strftime('%Y-%m-%d %H:%M:%f', 'now', '${(-whole / 1000).toFixed(3)} seconds')`;
    return `CURRENT_TIMESTAMP(3) - INTERVAL ${whole * 1000} MICROSECOND`;
  }

  /**
   * The columns that a claim reads. `ahead` is 1 if the statement reads the row before its own update, and `known` is set if kind and group
   * need not be read.
   */
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
      'claim_rank',
      ...this.#payload.map(([, column, sql]) => `${sql} AS ${column}`),
    ].join(', ');
  }

  /** Makes a row of a record. `counted` is 1 if the record's `lost` includes the start of this claim. */
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
      rank: Number(record.claim_rank),
      payload,
    };
  }
}

/** A decimal id as an SQL literal. It never becomes a JavaScript number, which rounds above 2^53. */
export function integer(id: string): string {
  if (!/^\d{1,20}$/.test(id)) throw new TypeError(`not an id: ${id}`);
  return id;
}
