import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from 'vitest';
import { createTopology, defineScan, type Scan, type ScanOptions, scanSchema, type Topology } from '../src/index.ts';

export interface Thing extends Record<string, unknown> {
  readonly id: string;
  readonly mq_state: number;
}

export interface Suite {
  /** Two databases; the state is in the first. */
  readonly databases: readonly [TestDatabase, TestDatabase];
  readonly topology: Topology;
  /** Fills `thing_000` to `thing_003` of both databases with ids from `first`, every `step`-th of which is to be sent. */
  fill(rowsPerTable: number, step?: number, first?: bigint): Promise<void>;
  scan(options?: Partial<ScanOptions<Thing>>): Scan<Thing>;
  /** A scan with connections of its own, as another process would have. */
  other(options?: Partial<ScanOptions<Thing>>): Scan<Thing>;
  count(where: object): Promise<number>;
  /** Cuts such a scan off its databases for good, as a kill does. Its code keeps running. */
  cutOff(scan: Scan<Thing>): Promise<void>;
}

/**
 * Runs the same tests on pairs of databases: two of each kind that is up, and mixed pairs if two kinds are up; or on the named pairs only.
 */
export function onEveryPair(name: string, tests: (suite: Suite) => void, only?: readonly string[]): void {
  const dialects = testDialects();
  const [first, second] = dialects;
  const pairs = [
    ...dialects.map((one) => ({ label: one.name as string, pair: [one, one] as const })),
    ...(first && second ? [{ label: `${second.name} and ${first.name}`, pair: [second, first] as const }] : []),
    ...(dialects[2] && second ? [{ label: `${dialects[2].name} and ${second.name}`, pair: [dialects[2], second] as const }] : []),
  ];
  const wanted = pairs.filter(({ label }) => only === undefined || only.includes(label));
  if (wanted.length === 0) it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
  describe.each(wanted)(`${name} on $label`, ({ pair }) => {
    let databases: [TestDatabase, TestDatabase] | undefined;
    const scans: Scan<Thing>[] = [];
    const connections = new Map<Scan<Thing>, readonly Knex[]>();
    const there = (): [TestDatabase, TestDatabase] => {
      if (!databases) throw new Error('the databases are made in beforeAll');
      return databases;
    };
    const tables = function* (): Generator<[Knex, string]> {
      for (const { knex } of there()) for (let table = 0; table < 4; table++) yield [knex, `thing_00${table}`];
    };
    beforeAll(async () => {
      databases = [await pair[0].create(), await pair[1].create()];
      await migrate(databases[0].knex, [coreSchema, scanSchema]);
      for (const [knex, table] of tables())
        await knex.schema.createTable(table, (t) => {
          t.bigInteger('id').notNullable().primary();
          t.integer('mq_state').notNullable().defaultTo(1);
          t.integer('touched').notNullable().defaultTo(0);
          t.bigInteger('order_id').nullable();
        });
    });
    beforeEach(async () => {
      for (const [knex, table] of tables()) await knex(table).delete();
      for (const table of ['scan_pass', 'scan_unit', 'scan_failure', 'holdfast_lease', 'holdfast_member'])
        await there()[0].knex(table).delete();
    });
    afterEach(async () => {
      for (const scan of scans.splice(0)) await scan.close();
    });
    afterAll(async () => {
      for (const one of databases ?? []) await one.drop();
    });
    const make = (state: Knex, two: readonly [Knex, Knex], options: Partial<ScanOptions<Thing>>): Scan<Thing> => {
      const scan = defineScan<Thing>({
        name: 'things',
        topology: createTopology({ databases: { '01': two[0], '02': two[1] }, tables: 4 }),
        table: 'thing',
        key: ['id'],
        where: (q) => q.where('mq_state', 0).orWhere('mq_state', 2),
        process: () => undefined,
        state,
        lease: '2s',
        logger: silentLogger,
        ...options,
      });
      scans.push(scan);
      return scan;
    };
    tests({
      get databases() {
        return there();
      },
      get topology() {
        const [a, b] = there();
        return createTopology({ databases: { '01': a.knex, '02': b.knex }, tables: 4 });
      },
      async fill(rowsPerTable, step = 1, firstId = 1n) {
        let id = firstId;
        for (const [knex, table] of tables())
          for (let from = 0; from < rowsPerTable; from += 200) {
            const rows = Array.from({ length: Math.min(200, rowsPerTable - from) }, () => {
              const row = {
                id: String(id),
                mq_state: Number(id - firstId) % step === 0 ? Number(id % 2n) * 2 : 1,
                order_id: '1454351703703945216',
              };
              id += 1n;
              return row;
            });
            await knex(table).insert(rows);
          }
      },
      scan(options = {}) {
        const [a, b] = there();
        return make(a.knex, [a.knex, b.knex], options);
      },
      other(options = {}) {
        const [a, b] = there();
        const own = [a.connect(), a.connect(), b.connect()] as const;
        const scan = make(own[0], [own[1], own[2]], options);
        connections.set(scan, own);
        return scan;
      },
      async cutOff(scan) {
        await scan.close();
        for (const knex of connections.get(scan) ?? []) await knex.destroy();
        connections.delete(scan);
      },
      async count(where) {
        let total = 0;
        for (const [knex, table] of tables()) total += Number((await knex(table).where(where).count({ n: '*' }))[0]?.n);
        return total;
      },
    });
  });
}
