import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { InvalidArgumentError } from '@holdfast/core';
import type { Knex } from 'knex';
import { NoShardError } from '../errors.ts';
import { Shard, type ShardLocation } from './shard.ts';
import { checkHash, type ShardHash, type ShardKey, shardIndex } from './shard-hash.ts';

/** Which databases there are, how many tables each has, and which hash chooses. */
export interface TopologyOptions {
  /** The databases by name, in their order: the first is number 1. */
  readonly databases: Readonly<Record<string, Knex>>;
  /** Tables of each kind in each database. */
  readonly tables: number;
  /** What follows a table's name, by its index from 0. Default `_000`, `_001`, … */
  readonly suffix?: (table: number) => string;
  /** How keys are spread. Default `java-spread`. */
  readonly hash?: ShardHash;
}

/**
 * Where rows are: databases of tables. Route by key (`forKey`), by place (`shard`), or for everything that a function calls (`at`,
 * `atKey`), by `AsyncLocalStorage`: there is nothing to clear, and a route within a route ends with it.
 */
export class Topology {
  readonly databases: number;
  readonly tables: number;
  readonly #shards: readonly Shard[];
  readonly #hash: ShardHash;
  readonly #context = new AsyncLocalStorage<Shard>();

  constructor(options: TopologyOptions) {
    const databases = Object.entries(options?.databases ?? {});
    if (databases.length === 0)
      throw new InvalidArgumentError("A topology needs databases: { databases: { '01': knexA, '02': knexB }, tables: 4 }.");
    const { tables } = options;
    if (!Number.isInteger(tables) || tables < 1 || tables > 10_000)
      throw new InvalidArgumentError(`tables is ${tables}; give the number of tables in each database, from 1 to 10,000.`);
    this.databases = databases.length;
    this.tables = tables;
    this.#hash = options.hash ?? 'java-spread';
    checkHash(this.#hash, this.databases, tables);
    const suffix = options.suffix ?? ((table) => `_${String(table).padStart(3, '0')}`);
    const suffixes = Array.from({ length: tables }, (_, table) => suffix(table));
    for (const [i, one] of suffixes.entries()) {
      if (!/^[A-Za-z0-9_]*$/.test(one))
        throw new InvalidArgumentError(`suffix(${i}) is ${JSON.stringify(one)}; use letters, digits and underscores.`);
      if (suffixes.indexOf(one) !== i)
        throw new InvalidArgumentError(
          `suffix gives ${JSON.stringify(one)} for tables ${suffixes.indexOf(one)} and ${i}; each table needs its own.`,
        );
    }
    this.#shards = databases.flatMap(([databaseName, knex], i) => {
      if (typeof knex !== 'function' || !('client' in knex))
        throw new InvalidArgumentError(`databases['${databaseName}'] is no knex instance; pass one for each database.`);
      return suffixes.map((one, table) => new Shard({ database: i + 1, table, databaseName, suffix: one, knex }));
    });
  }

  /** Every shard, database by database. */
  get shards(): readonly Shard[] {
    return this.#shards;
  }

  /** The shard at a place. @throws InvalidArgumentError */
  shard({ database, table }: ShardLocation): Shard {
    const shard =
      Number.isInteger(database) && Number.isInteger(table) && database >= 1 && table >= 0 && table < this.tables
        ? this.#shards[(database - 1) * this.tables + table]
        : undefined;
    if (!shard)
      throw new InvalidArgumentError(
        `There is no table ${table} in database ${database}: databases are 1 to ${this.databases}, tables 0 to ${this.tables - 1}.`,
      );
    return shard;
  }

  /** The shard of a key. @throws InvalidArgumentError */
  forKey(key: ShardKey): Shard {
    return this.#shards[shardIndex(this.#hash, key, this.#shards.length)] as Shard;
  }

  /** Runs `fn`, and all that it calls and awaits, on the shard at a place. */
  at<T>(location: ShardLocation, fn: (shard: Shard) => T): T {
    const shard = this.shard(location);
    return this.#context.run(shard, () => fn(shard));
  }

  /** Runs `fn`, and all that it calls and awaits, on the shard of a key. */
  atKey<T>(key: ShardKey, fn: (shard: Shard) => T): T {
    const shard = this.forKey(key);
    return this.#context.run(shard, () => fn(shard));
  }

  /** The shard of the route that this code runs in. @throws NoShardError outside of any */
  get current(): Shard {
    const shard = this.#context.getStore();
    if (!shard)
      throw new NoShardError(
        'This code runs on no shard: call it within topology.at({ database, table }, …) or topology.atKey(key, …), or bind what an emitter calls with topology.bind(fn).',
      );
    return shard;
  }

  /**
   * `fn` with the route of this moment, for emitters and others that call it from elsewhere.
   * @typeParam Fn the function, whose shape it keeps
   */
  // biome-ignore lint/suspicious/noExplicitAny: the arguments are the caller's
  bind<Fn extends (...args: any[]) => unknown>(fn: Fn): Fn {
    void this.current;
    return AsyncResource.bind(fn) as Fn;
  }
}

/** Describes where rows are. @throws InvalidArgumentError */
export function createTopology(options: TopologyOptions): Topology {
  return new Topology(options);
}
