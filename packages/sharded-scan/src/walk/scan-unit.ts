import type { Database } from '@holdfast/core';
import { InvalidArgumentError, quoted } from '@holdfast/core';
import type { Shard } from '../route/shard.ts';
import type { TableShape } from './table-shape.ts';

/** The condition of {@link ScanUnit.update}. */
export interface UpdateOptions {
  /** The values that columns must still have: one value, `null`, or one of several. Rows that differ are not changed. */
  readonly where?: Readonly<Record<string, string | number | null | readonly (string | number)[]>>;
}

/** The table that is being walked, as `process` sees it. */
export class ScanUnit<Row extends Record<string, unknown> = Record<string, unknown>> {
  readonly shard: Shard;
  /** The table's name with its suffix. */
  readonly table: string;
  /**
   * Aborts when this instance must not work on the unit any more: it has lost its lease, a call of `process` took longer than
   * `processTimeout`, the run was stopped and `stopTimeout` has passed, or the walk has ended. Pass it to whatever waits.
   */
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
   * Sets columns of rows, but only of rows that have not changed since they were read: compared by the scan's `version` column, by `where`,
   * or by both. A row that has changed is left as it is; the next pass finds it if it still matches.
   * @returns the number of rows written
   * @throws InvalidArgumentError if the scan has no `version` column and `where` is not given; the reason of `signal` once it has aborted
   */
  async update(rows: readonly Row[], set: Readonly<Record<string, string | number | null>>, options: UpdateOptions = {}): Promise<number> {
    if (this.#version === undefined && options.where === undefined)
      throw new InvalidArgumentError(
        'update must check that a row has not changed since it was read: give the scan a version column, or name the expected values in where, as in { where: { mq_state: [0, 2] } }.',
      );
    const names = Object.keys(set);
    const conditions = Object.entries(options.where ?? {}).map(([name, value]) => this.#condition(name, value));
    let changed = 0;
    const { key, fromText } = this.#shape;
    const sameRow = [
      ...key.map(({ column }, i) => `${this.#quoted(column)} = ${fromText[i]}`),
      ...(this.#version === undefined ? [] : [`${this.#database.text(this.#quoted(this.#version))} = ?`]),
    ].join(' AND ');
    const compared = [...key.map(({ column }) => column), ...(this.#version === undefined ? [] : [this.#version])];
    for (let from = 0; from < rows.length; from += 200) {
      this.signal.throwIfAborted();
      const some = rows.slice(from, from + 200);
      const matchesRow =
        compared.length === 1
          ? `${this.#quoted(compared[0] ?? '')} IN (${some.map(() => fromText[0]).join(', ')})`
          : `(${some.map(() => `(${sameRow})`).join(' OR ')})`;
      const params = some.flatMap((row) => compared.map((column) => this.#value(row, column)));
      changed += await this.#database.run(
        `UPDATE ${this.#database.table(this.table)} SET ${names.map((name) => `${this.#quoted(name)} = ?`).join(', ')} WHERE ${[matchesRow, ...conditions.map(({ sql }) => sql)].join(' AND ')}`,
        [...names.map((name) => set[name]), ...params, ...conditions.flatMap(({ params }) => params)],
      );
    }
    return changed;
  }

  #value(row: Row, column: string): unknown {
    if (!(column in row)) throw new InvalidArgumentError(`A row has no column ${column}; pass the rows as process received them.`);
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
      throw new InvalidArgumentError(`${JSON.stringify(name)} is not a valid column name; use letters, digits and underscores.`);
    return quoted(this.#database, name);
  }
}
