import { InvalidArgumentError } from '@holdfast/core';
import type { Knex } from 'knex';

/** Where a table is. */
export interface ShardLocation {
  /** From 1, in the order in which the databases were given. */
  readonly database: number;
  /** From 0. */
  readonly table: number;
}

/** One table of each kind: a database and a suffix. */
export class Shard implements ShardLocation {
  readonly database: number;
  readonly table: number;
  /** The database's name in the topology. */
  readonly databaseName: string;
  readonly suffix: string;
  readonly knex: Knex;

  constructor(parts: ShardLocation & { readonly databaseName: string; readonly suffix: string; readonly knex: Knex }) {
    this.database = parts.database;
    this.table = parts.table;
    this.databaseName = parts.databaseName;
    this.suffix = parts.suffix;
    this.knex = parts.knex;
  }

  /** `01.003`, as logs say it. */
  get name(): string {
    return `${this.databaseName}${this.suffix.replace(/^_?/, '.')}`;
  }

  /** The table's name here: the logical name and the suffix. */
  tableName(logical: string): string {
    return `${logical}${this.suffix}`;
  }

  /** A query on a table of this shard, in `trx` if one is given, which must be of this shard's database. */
  // biome-ignore lint/suspicious/noExplicitAny: as knex types its own rows
  query<Row extends {} = any>(logical: string, trx?: Knex.Transaction): Knex.QueryBuilder<Row> {
    if (trx && (trx.client as { config: unknown }).config !== (this.knex.client as { config: unknown }).config)
      throw new InvalidArgumentError(
        `The transaction is not one of database ${this.databaseName}; begin it on this shard: shard.transaction(async (trx) => …).`,
      );
    return (trx ?? this.knex)(this.tableName(logical)) as Knex.QueryBuilder<Row>;
  }

  /** A transaction on this shard's database. */
  transaction<T>(fn: (trx: Knex.Transaction) => Promise<T>): Promise<T> {
    return this.knex.transaction(fn);
  }
}
