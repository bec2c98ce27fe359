import type { Database } from '@holdfast/core';
import { quoted } from '@holdfast/core';
import type { TableShape } from './table-shape.ts';

/** A position in the order of the key: the values of the key's columns as text. */
export type Position = readonly string[];

/** True if two positions have the same texts. */
export function samePosition(one: Position, other: Position): boolean {
  return one.every((text, i) => text === other[i]);
}

interface Sql {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** The statements that walk one table by its key. Pages are not read by offset, because each page would read all rows before it again. */
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
    this.#table = `${database.table(shape.table)} t`;
    this.#columns = shape.key.map(({ column }) => `t.${quoted(database, column)}`);
    this.#order = shape.key.map(({ direction }, i) => `${this.#columns[i]} ${direction}`).join(', ');
    this.#backwards = shape.key.map(({ direction }, i) => `${this.#columns[i]} ${direction === 'asc' ? 'desc' : 'asc'}`).join(', ');
    this.#keyText = this.#columns.map((column, i) => `${shape.toText[i]?.(column)} AS k${i}`).join(', ');
  }

  /** The position of the last row; `undefined` if the table is empty. */
  async last(): Promise<Position | undefined> {
    return this.#position(`SELECT ${this.#keyText} FROM ${this.#table} ORDER BY ${this.#backwards} LIMIT 1`, []);
  }

  /** The position `rows` rows after `after`; `undefined` if it is beyond `bound`. Reads only the index. */
  async ahead(after: Position | undefined, bound: Position, rows: number): Promise<Position | undefined> {
    let left = rows;
    const ranges = this.#ranges(after, bound);
    for (const range of ranges)
      for (;;) {
        // The subquery makes the database convert one row to text, not every row that it skips.
        const row = `SELECT ${this.#columns.map((column, i) => `${column} AS c${i}`).join(', ')} FROM ${this.#table} WHERE ${range.sql} ORDER BY ${this.#order} LIMIT 1 OFFSET ${left - 1}`;
        const texts = this.#shape.toText.map((toText, i) => `${toText(`c${i}`)} AS k${i}`).join(', ');
        const found = await this.#position(`SELECT ${texts} FROM (${row}) one_row`, range.params);
        if (found || range === ranges.at(-1)) return found;
        const there = await this.#count(range);
        if (there < left) {
          left -= there;
          break;
        }
        // Rows were inserted between the two statements, so this range now holds the wanted row.
      }
    return undefined;
  }

  /** The number of rows after `after` and up to `bound`. */
  async count(after: Position | undefined, bound: Position): Promise<number> {
    let rows = 0;
    for (const range of this.#ranges(after, bound)) rows += await this.#count(range);
    return rows;
  }

  /** The approximate number of rows, from the database's statistics. Only SQLite, which keeps none, counts the rows. */
  async estimate(): Promise<number | undefined> {
    const { family } = this.#database;
    if (family === 'sqlite') return this.#number(`SELECT count(*) AS n FROM ${this.#table}`, []);
    if (family === 'mysql')
      return this.#number('SELECT table_rows AS n FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?', [
        this.#shape.table,
      ]);
    // The planner's estimate includes rows that were added since the statistics were taken.
    const [plan] = await this.#database.rows<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
      `EXPLAIN (FORMAT JSON) SELECT 1 FROM ${this.#table}`,
      [],
    );
    return plan?.['QUERY PLAN'][0].Plan['Plan Rows'];
  }

  /** The next matching rows after `after` and up to `bound`, in the order of the key. */
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

  /** The matching rows at some positions. */
  async at<Row>(positions: readonly Position[], where: Sql): Promise<Row[]> {
    const { key, fromText } = this.#shape;
    const same = key.map((_, i) => `${this.#columns[i]} = ${fromText[i]}`).join(' AND ');
    return this.#database.rows<Row>(
      `SELECT ${this.#shape.selected} FROM ${this.#table} WHERE (${positions.map(() => `(${same})`).join(' OR ')}) AND (${where.sql}) ORDER BY ${this.#order}`,
      [...positions.flat(), ...where.params],
    );
  }

  /** The position of a row. */
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
   * Splits the rows after `after`, up to and including `bound`, into consecutive ranges whose two ends an index can seek to. A key of two
   * columns gives the rest of the first group, the groups between, and the start of the last group; or one range if both ends are in the
   * same group. MySQL and MariaDB derive these ranges from one condition with ORs; PostgreSQL and SQLite would read the whole group for
   * each page.
   */
  #ranges(after: Position | undefined, bound: Position): readonly Sql[] {
    const upTo = this.#compare(bound, false);
    if (this.#database.family === 'mysql' || bound.length === 1) return [after ? both(this.#compare(after, true), upTo) : upTo];
    // Texts that differ may still be equal in a collation. The first ranges, which `upTo` ends, then hold every row, and `lower` empties
    // the last.
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

  /** The condition for rows after a position, or up to and including it. */
  #compare(position: Position, after: boolean): Sql {
    return this.#either(position[0] ?? '', this.#levels(position, after), after);
  }

  /** One condition per key column: equal in the columns before it, and on the wanted side in that column. */
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
    // The separate comparison of the first column lets databases use the index that they would not find through an OR.
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
