import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { InvalidArgumentError, shownValue, wholeNumber } from '@holdfast/core';
import type { Knex } from 'knex';
import { NoShardError } from '../errors.ts';
import { serverOf } from './server-of.ts';
import { Shard, type ShardLocation } from './shard.ts';
import { checkHash, type ShardHash, type ShardKey, shardIndex } from './shard-hash.ts';

/** The databases, the number of tables in each, and the hash that maps keys to them. */
export interface TopologyOptions {
  /** The databases by name. Their order counts: the first is number 1. */
  readonly databases: Readonly<Record<string, Knex>>;
  /** Number of tables of each kind in each database, from 1 to 10,000. */
  readonly tables: number;
  /** Returns the suffix of a table's name for its index, from 0. Letters, digits and underscores. Default `_000`, `_001`, … */
  readonly suffix?: (table: number) => string;
  /** The rule that maps a key to a table. Default `java-spread`. */
  readonly hash?: ShardHash;
}

/**
 * Maps keys to shards. A shard is found by key (`forKey`) or by place (`shard`), or set for everything that a function calls (`at`,
 * `atKey`). The latter uses `AsyncLocalStorage`: nothing has to be cleared, and when a nested call returns, the outer shard is current
 * again.
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
    const tables = wholeNumber('tables', options.tables, { most: 10_000 });
    this.databases = databases.length;
    this.tables = tables;
    this.#hash = options.hash ?? 'java-spread';
    checkHash(this.#hash, this.databases, tables);
    const suffix = options.suffix ?? ((table) => `_${String(table).padStart(3, '0')}`);
    const suffixes = Array.from({ length: tables }, (_, table) => suffix(table));
    for (const [i, one] of suffixes.entries()) {
      if (!/^[A-Za-z0-9_]*$/.test(one))
        throw new InvalidArgumentError(`suffix(${i}) is ${shownValue(one)}; use letters, digits and underscores.`);
      if (suffixes.indexOf(one) !== i)
        throw new InvalidArgumentError(
          `suffix gives ${shownValue(one)} for tables ${suffixes.indexOf(one)} and ${i}; each table needs its own.`,
        );
    }
    this.#shards = databases.flatMap(([databaseName, knex], i) => {
      if (typeof knex !== 'function' || !('client' in knex))
        throw new InvalidArgumentError(`databases['${databaseName}'] is not a knex instance; pass one for each database.`);
      const server = serverOf(knex, databaseName);
      return suffixes.map((one, table) => new Shard({ database: i + 1, table, databaseName, suffix: one, knex, server }));
    });
  }

  /** All shards, ordered by database, then by table. */
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

  /** Runs `fn` with the shard at a place as {@link current}, also in everything that `fn` calls and awaits. @throws InvalidArgumentError */
  at<T>(location: ShardLocation, fn: (shard: Shard) => T): T {
    const shard = this.shard(location);
    return this.#context.run(shard, () => fn(shard));
  }

  /** Runs `fn` with the shard of a key as {@link current}, also in everything that `fn` calls and awaits. @throws InvalidArgumentError */
  atKey<T>(key: ShardKey, fn: (shard: Shard) => T): T {
    const shard = this.forKey(key);
    return this.#context.run(shard, () => fn(shard));
  }

  /** The shard set by the innermost `at` or `atKey` around this code. @throws NoShardError if there is none */
  get current(): Shard {
    const shard = this.#context.getStore();
    if (!shard)
      throw new NoShardError(
        'No shard is set for this code: call it within topology.at({ database, table }, …) or topology.atKey(key, …), or wrap a callback of an emitter in topology.bind(fn).',
      );
    return shard;
  }

  /**
   * Binds `fn` to the current shard, for callbacks that an emitter or a pool calls from another context.
   * @typeParam Fn the type of the function, which the result keeps
   * @throws NoShardError if no shard is set
   */
  // biome-ignore lint/suspicious/noExplicitAny: the arguments are the caller's
  bind<Fn extends (...args: any[]) => unknown>(fn: Fn): Fn {
    void this.current;
    return AsyncResource.bind(fn) as Fn;
  }
}

/** Creates a topology. @throws InvalidArgumentError if an option is not valid, or the hash would leave tables unused */
export function createTopology(options: TopologyOptions): Topology {
  return new Topology(options);
}
