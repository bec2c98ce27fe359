import type { Database } from '@holdfast/core';
import { InvalidArgumentError } from '@holdfast/core';
import type { Shard } from '../route/shard.ts';
import type { TableShape } from './table-shape.ts';

/** What a conditional update changes besides, and under which version. */
export interface UpdateOptions {
  /** Columns that must be as said: one value, or one of several. */
  readonly where?: Readonly<Record<string, string | number | null | readonly (string | number)[]>>;
}

/** One table while it is walked, as `process` sees it. */
export class ScanUnit<Row extends Record<string, unknown> = Record<string, unknown>> {
  readonly shard: Shard;
  readonly table: string;
  /** Aborts when the unit is lost, or the run is. */
  readonly signal: AbortSignal;
  readonly #database: Database;
  readonly #shape: TableShape;
  readonly #version: string | undefined;

  constructor(parts: {
    readonly shard: Shard;
    readonly shape: TableShape;
    readonly signal: AbortSignal;
    readonly database: Database;
    readonly version: string | undefined;
  }) {
    this.shard = parts.shard;
    this.table = parts.shape.table;
    this.signal = parts.signal;
    this.#database = parts.database;
    this.#shape = parts.shape;
    this.#version = parts.version;
  }

  /**
   * Writes columns of rows, each only while it is as it was read: by the scan's `version` column, or by `where`. A row that changed
   * meanwhile stays as it is, and is found by the next pass. Returns how many were written.
   */
  async update(rows: readonly Row[], set: Readonly<Record<string, string | number | null>>, options: UpdateOptions = {}): Promise<number> {
    if (this.#version === undefined && options.where === undefined)
      throw new InvalidArgumentError(
        'update must know that a row is still as it was read: give the scan a version column, or say in where which state it must have, as in { where: { mq_state: [0, 2] } }.',
      );
    const names = Object.keys(set);
    const conditions = Object.entries(options.where ?? {}).map(([name, value]) => this.#condition(name, value));
    let changed = 0;
    const { key, fromText } = this.#shape;
    const isRow = [
      ...key.map(({ column }, i) => `${this.#quoted(column)} = ${fromText[i]}`),
      ...(this.#version === undefined ? [] : [`${this.#database.text(this.#quoted(this.#version))} = ?`]),
    ].join(' AND ');
    const known = [...key.map(({ column }) => column), ...(this.#version === undefined ? [] : [this.#version])];
    for (let from = 0; from < rows.length; from += 200) {
      const some = rows.slice(from, from + 200);
      const which =
        known.length === 1
          ? `${this.#quoted(known[0] ?? '')} IN (${some.map(() => fromText[0]).join(', ')})`
          : `(${some.map(() => `(${isRow})`).join(' OR ')})`;
      const params = some.flatMap((row) => known.map((column) => this.#value(row, column)));
      changed += await this.#database.run(
        `UPDATE ${this.#database.table(this.table)} SET ${names.map((name) => `${this.#quoted(name)} = ?`).join(', ')} WHERE ${[which, ...conditions.map(({ sql }) => sql)].join(' AND ')}`,
        [...names.map((name) => set[name]), ...params, ...conditions.flatMap(({ params }) => params)],
      );
    }
    return changed;
  }

  #value(row: Row, column: string): unknown {
    if (!(column in row)) throw new InvalidArgumentError(`A row has no ${column}; pass rows as they were handed over.`);
    return row[column];
  }

  #condition(
    name: string,
    value: string | number | null | readonly (string | number)[],
  ): { readonly sql: string; readonly params: readonly unknown[] } {
    if (value === null) return { sql: `${this.#quoted(name)} IS NULL`, params: [] };
    const list = Array.isArray(value) ? value : [value];
    return { sql: `${this.#quoted(name)} IN (${list.map(() => '?').join(', ')})`, params: list };
  }

  #quoted(name: string): string {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw new InvalidArgumentError(`${JSON.stringify(name)} is no name of a column; use letters, digits and underscores.`);
    return this.#database.family === 'mysql' ? `\`${name}\`` : `"${name}"`;
  }
}
