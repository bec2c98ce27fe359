import { InvalidArgumentError } from '@holdfast/core';
import type { Knex } from 'knex';

/** The place of a table in the topology. */
export interface ShardLocation {
  /** Number of the database: from 1, in the order of the topology's `databases`. */
  readonly database: number;
  /** Index of the table within its database: from 0. */
  readonly table: number;
}

/** A database and a table suffix: one table of each kind. */
export class Shard implements ShardLocation {
  readonly database: number;
  readonly table: number;
  /** The database's name in the topology. */
  readonly databaseName: string;
  readonly suffix: string;
  readonly knex: Knex;
  /** The server of the database, such as `mysql 10.0.0.7:3306`: shards on one server have the same. */
  readonly server: string;

  constructor(
    parts: ShardLocation & { readonly databaseName: string; readonly suffix: string; readonly knex: Knex; readonly server: string },
  ) {
    this.database = parts.database;
    this.table = parts.table;
    this.databaseName = parts.databaseName;
    this.suffix = parts.suffix;
    this.knex = parts.knex;
    this.server = parts.server;
  }

  /** The name in logs, events and checkpoints, for example `01.003`. */
  get name(): string {
    return `${this.databaseName}${this.suffix.replace(/^_?/, '.')}`;
  }

  /** The name of a table on this shard: its logical name followed by the suffix. */
  tableName(logical: string): string {
    return `${logical}${this.suffix}`;
  }

  /**
   * A query on a table of this shard.
   * @param trx the transaction to run the query in; it must belong to this shard's database
   * @throws InvalidArgumentError if `trx` belongs to another database
   */
  // biome-ignore lint/suspicious/noExplicitAny: as knex types its own rows
  query<Row extends {} = any>(logical: string, trx?: Knex.Transaction): Knex.QueryBuilder<Row> {
    if (trx && (trx.client as { config: unknown }).config !== (this.knex.client as { config: unknown }).config)
      throw new InvalidArgumentError(
        `The transaction does not belong to database ${this.databaseName}; begin it on this shard: shard.transaction(async (trx) => …).`,
      );
    return (trx ?? this.knex)(this.tableName(logical)) as Knex.QueryBuilder<Row>;
  }

  /** Runs `fn` in a transaction on this shard's database. */
  transaction<T>(fn: (trx: Knex.Transaction) => Promise<T>): Promise<T> {
    return this.knex.transaction(fn);
  }
}
