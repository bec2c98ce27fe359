import type { Database } from '@holdfast/core';
import type { TableShape } from './table-shape.ts';

/** A place in the order of the key: the texts of its columns. */
export type Position = readonly string[];

/** Whether two positions are the same place. */
export function samePosition(one: Position, other: Position): boolean {
  return one.every((text, i) => text === other[i]);
}

interface Sql {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** Statements that walk one table by its key: never by offset, which reads again all that it skips. */
export class Keyset {
  readonly #database: Database;
  readonly #shape: TableShape;
  readonly #table: string;
  readonly #columns: readonly string[];
  readonly #order: string;
  readonly #backwards: string;
  readonly #keyText: string;

  constructor(database: Database, shape: TableShape) {
    this.#database = database;
    this.#shape = shape;
    const quote = database.family === 'mysql' ? '`' : '"';
    this.#table = `${database.table(shape.table)} t`;
    this.#columns = shape.key.map(({ column }) => `t.${quote}${column}${quote}`);
    this.#order = shape.key.map(({ direction }, i) => `${this.#columns[i]} ${direction}`).join(', ');
    this.#backwards = shape.key.map(({ direction }, i) => `${this.#columns[i]} ${direction === 'asc' ? 'desc' : 'asc'}`).join(', ');
    this.#keyText = this.#columns.map((column, i) => `${shape.toText[i]?.(column)} AS k${i}`).join(', ');
  }

  /** The last row there is; `undefined` in an empty table. */
  async last(): Promise<Position | undefined> {
    return this.#position(`SELECT ${this.#keyText} FROM ${this.#table} ORDER BY ${this.#backwards} LIMIT 1`, []);
  }

  /** The row that is `rows` rows after `after`, if it is not beyond `bound`. Reads the index alone. */
  async ahead(after: Position | undefined, bound: Position, rows: number): Promise<Position | undefined> {
    let left = rows;
    const ranges = this.#ranges(after, bound);
    for (const range of ranges)
      for (;;) {
        // Text of one row, not of all that are skipped.
        const row = `SELECT ${this.#columns.map((column, i) => `${column} AS c${i}`).join(', ')} FROM ${this.#table} WHERE ${range.sql} ORDER BY ${this.#order} LIMIT 1 OFFSET ${left - 1}`;
        const texts = this.#shape.toText.map((toText, i) => `${toText(`c${i}`)} AS k${i}`).join(', ');
        const found = await this.#position(`SELECT ${texts} FROM (${row}) one_row`, range.params);
        if (found || range === ranges.at(-1)) return found;
        const there = await this.#count(range);
        if (there < left) {
          left -= there;
          break;
        }
        // Rows have come in between the two statements, so the one that is wanted is in this range by now.
      }
    return undefined;
  }

  /** How many rows there are after `after` and up to `bound`. */
  async count(after: Position | undefined, bound: Position): Promise<number> {
    let rows = 0;
    for (const range of this.#ranges(after, bound)) rows += await this.#count(range);
    return rows;
  }

  /** About how many rows the table has, by what the database knows of it: nothing is read for it, but on SQLite. */
  async estimate(): Promise<number | undefined> {
    const { family } = this.#database;
    if (family === 'sqlite') return this.#number(`SELECT count(*) AS n FROM ${this.#table}`, []);
    if (family === 'mysql')
      return this.#number('SELECT table_rows AS n FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?', [
        this.#shape.table,
      ]);
    // By the planner, which also reckons with what was added since the statistics were taken.
    const [plan] = await this.#database.rows<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
      `EXPLAIN (FORMAT JSON) SELECT 1 FROM ${this.#table}`,
      [],
    );
    return plan?.['QUERY PLAN'][0].Plan['Plan Rows'];
  }

  /** The next rows that match, after `after` and up to `bound`. */
  async read<Row>(after: Position | undefined, bound: Position, where: Sql, limit: number): Promise<Row[]> {
    const rows: Row[] = [];
    for (const range of this.#ranges(after, bound)) {
      const some = await this.#database.rows<Row>(
        `SELECT ${this.#shape.selected} FROM ${this.#table} WHERE ${range.sql} AND (${where.sql}) ORDER BY ${this.#order} LIMIT ${limit - rows.length}`,
        [...range.params, ...where.params],
      );
      rows.push(...some);
      if (rows.length === limit) break;
    }
    return rows;
  }

  /** Where a row stands. */
  positionOf(row: Readonly<Record<string, unknown>>): Position {
    return this.#shape.key.map(({ column }) => String(row[column]));
  }

  async #position(sql: string, params: readonly unknown[]): Promise<Position | undefined> {
    const [row] = await this.#database.rows<Record<string, string>>(sql, params);
    return row && this.#columns.map((_, i) => String(row[`k${i}`]));
  }

  async #number(sql: string, params: readonly unknown[]): Promise<number | undefined> {
    const [row] = await this.#database.rows<{ n: string | number | null }>(sql, params);
    return row?.n === undefined || row.n === null ? undefined : Number(row.n);
  }

  async #count({ sql, params }: Sql): Promise<number> {
    return (await this.#number(`SELECT count(*) AS n FROM ${this.#table} WHERE ${sql}`, params)) ?? 0;
  }

  /**
   * Splits the rows after `after`, up to and including `bound`, into consecutive ranges that an index serves at both ends. A key of two
   * columns gives the rest of the first group, the groups between, and the start of the last group; or one range, if both ends are in one
   * group. MySQL and MariaDB derive these ranges from one condition with ORs. PostgreSQL and SQLite would read the whole group for each page.
   */
  #ranges(after: Position | undefined, bound: Position): readonly Sql[] {
    const upTo = this.#compare(bound, false);
    if (this.#database.family === 'mysql' || bound.length === 1) return [after ? both(this.#compare(after, true), upTo) : upTo];
    // Texts that differ may still be equal by a collation. Then all is in the first ranges, which `upTo` ends, and `lower` empties the last.
    const same = after ? bound.findIndex((text, i) => text !== after[i]) : 0;
    const shared = same < 0 ? bound.length - 1 : same;
    const from = after ? this.#levels(after, true) : [];
    const to = this.#levels(bound, false);
    const middle = to[shared] as Sql;
    const lower = from[shared];
    return [
      ...from
        .slice(shared + 1)
        .toReversed()
        .map((range) => both(range, upTo)),
      lower ? both(lower, middle) : middle,
      ...to.slice(shared + 1).map((range) => (lower ? both(range, lower) : range)),
    ];
  }

  /** After a position, or up to and including it. */
  #compare(position: Position, after: boolean): Sql {
    return this.#either(position[0] ?? '', this.#levels(position, after), after);
  }

  /** One condition for each column of the key: equal in the columns before, and on the wanted side in that one. */
  #levels(position: Position, after: boolean): readonly Sql[] {
    const { key, fromText } = this.#shape;
    return key.map(({ direction }, i) => {
      const equal = key.slice(0, i).map((_, j) => `${this.#columns[j]} = ${fromText[j]}`);
      const last = i === key.length - 1 && !after ? '=' : '';
      const sql = [...equal, `${this.#columns[i]} ${sign(direction, after)}${last} ${fromText[i]}`].join(' AND ');
      return { sql, params: position.slice(0, i + 1) };
    });
  }

  #either(first: string, levels: readonly Sql[], after: boolean): Sql {
    const [only] = levels;
    if (only && levels.length === 1) return only;
    // The comparison of the first column by itself lets the index be used on databases that see none in an OR.
    const { key, fromText } = this.#shape;
    return {
      sql: `${this.#columns[0]} ${sign(key[0]?.direction ?? 'asc', after)}= ${fromText[0]} AND (${levels.map(({ sql }) => `(${sql})`).join(' OR ')})`,
      params: [first, ...levels.flatMap(({ params }) => params)],
    };
  }
}

function both(one: Sql, other: Sql): Sql {
  return { sql: `${one.sql} AND ${other.sql}`, params: [...one.params, ...other.params] };
}

function sign(direction: 'asc' | 'desc', after: boolean): string {
  return (direction === 'asc') === after ? '>' : '<';
}
