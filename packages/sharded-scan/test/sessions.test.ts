import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTopology, defineScan, scanSchema } from '../src/index.ts';

const two = (n: number): string => String(n).padStart(2, '0');

/** Settings that roles and databases have, each with key types whose texts depend on it, and 60 values. */
const settings: readonly (readonly [setting: string, keys: Readonly<Record<string, (i: number) => unknown>>])[] = [
  [
    '-c DateStyle=SQL,DMY -c TimeZone=Asia/Shanghai',
    {
      timestamptz: (i) => `2026-${two(1 + (i % 12))}-${two(1 + Math.trunc(i / 12))} 20:59:59.0000${two(i)}+00`,
      timestamp: (i) => `2026-${two(1 + (i % 12))}-${two(1 + Math.trunc(i / 12))} 20:59:59.0000${two(i)}`,
      date: (i) => `2026-${two(1 + (i % 12))}-${two(1 + Math.trunc(i / 12))}`,
      tstzrange: (i) => `[2026-01-${two(1 + (i % 30))} 20:00:00.${two(i)}+00,2027-01-01 00:00:00+00)`,
    },
  ],
  ['-c DateStyle=German,DMY -c TimeZone=America/New_York', { timestamptz: (i) => `2026-11-01 05:${two(i)}:00+00` }],
  [
    '-c DateStyle=Postgres,MDY -c TimeZone=Europe/Berlin',
    { timestamptz: (i) => `2026-10-25 00:${two(i)}:00+00`, timestamp: (i) => `2026-10-25 02:${two(i)}:00` },
  ],
  ['-c IntervalStyle=sql_standard', { interval: (i) => `${i % 7} days ${i - 30} hours ${i % 3} minutes` }],
  ['-c IntervalStyle=postgres_verbose', { interval: (i) => `${i - 30} mons ${i} minutes` }],
  ['-c extra_float_digits=0', { 'double precision': (i) => 1 + i * Number.EPSILON, real: (i) => 1 + i * 2 ** -23 }],
  ['-c extra_float_digits=-15', { 'double precision': (i) => 1 / 3 + i / 100 }],
  ['-c bytea_output=escape', { bytea: (i) => Buffer.from([i, 0, 255 - i, 92, 39]) }],
];

describe.each(testDialects().filter(({ name }) => name === 'postgres'))('a scan of $name whose role has other settings', (dialect) => {
  let db: TestDatabase;
  let knex: Knex | undefined;
  beforeEach(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, scanSchema]);
  });
  afterEach(async () => {
    await knex?.destroy();
    await db.drop();
  });

  it.each(settings)('%s: sees each row once, and writes to it', async (options, keys) => {
    const url = new URL(db.address);
    const schema = url.searchParams.get('schema') ?? '';
    url.search = '';
    knex = knexFactory({
      client: 'pg',
      connection: { connectionString: url.href, options },
      searchPath: [schema],
      pool: { min: 0, max: 4 },
    });
    for (const [type, value] of Object.entries(keys)) {
      await db.knex.raw(`CREATE TABLE keyed_000 (id ${type} NOT NULL PRIMARY KEY, touched INTEGER NOT NULL)`);
      await db.knex('keyed_000').insert(Array.from({ length: 60 }, (_, i) => ({ id: value((i * 7) % 60), touched: 0 })));
      for (const direction of ['asc', 'desc'] as const) {
        const seen = new Set<string>();
        let handled = 0;
        await using scan = defineScan<{ id: string }>({
          name: `keys-${direction}`,
          topology: createTopology({ databases: { '01': knex }, tables: 1 }),
          table: 'keyed',
          key: [{ column: 'id', direction }],
          where: () => undefined,
          batch: 7,
          window: 11,
          state: knex,
          logger: silentLogger,
          process: async (rows, unit) => {
            handled += rows.length;
            for (const { id } of rows) seen.add(id);
            const touched = direction === 'asc' ? 0 : 1;
            expect(await unit.update(rows, { touched: touched + 1 }, { where: { touched } })).toBe(rows.length);
          },
        });
        const { exitCode, units } = await scan.run();
        expect({ type, direction, exitCode, error: units[0]?.error, handled, distinct: seen.size }).toEqual({
          type,
          direction,
          exitCode: 0,
          error: undefined,
          handled: 60,
          distinct: 60,
        });
        if (type === 'timestamptz') expect([...seen].every((id) => id.endsWith('+00'))).toBe(true);
      }
      await db.knex.schema.dropTable('keyed_000');
    }
  });

  it('keeps the time zone and the order of day and month, by which the texts of a condition are read', async () => {
    const url = new URL(db.address);
    const schema = url.searchParams.get('schema') ?? '';
    url.search = '';
    const options = '-c DateStyle=SQL,DMY -c TimeZone=Asia/Shanghai';
    knex = knexFactory({
      client: 'pg',
      connection: { connectionString: url.href, options },
      searchPath: [schema],
      pool: { min: 0, max: 4 },
    });
    await db.knex.raw('CREATE TABLE dated_000 (id INTEGER NOT NULL PRIMARY KEY, day DATE NOT NULL, at TIMESTAMPTZ NOT NULL)');
    await db.knex('dated_000').insert([
      { id: 1, day: '2026-02-03', at: '2026-02-03 16:00:00+00' },
      { id: 2, day: '2026-03-02', at: '2026-03-02 16:00:00+00' },
    ]);
    const seen: unknown[] = [];
    await using scan = defineScan<{ id: string; at: Date }>({
      name: 'dated',
      topology: createTopology({ databases: { '01': knex }, tables: 1 }),
      table: 'dated',
      key: ['id'],
      where: (query) => query.whereRaw("day = '03/02/2026' AND at = '04/02/2026 00:00:00'"),
      state: knex,
      logger: silentLogger,
      process: (rows) => void seen.push(...rows.map(({ id, at }) => [id, at.toISOString()])),
    });
    expect(await scan.run()).toMatchObject({ exitCode: 0 });
    expect(seen).toEqual([['1', '2026-02-03T16:00:00.000Z']]);
  });
});

/** On MySQL and MariaDB, by afterCreate: what administrators set there, and key types. */
const odd = [
  "SET SESSION sql_mode = 'PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES,ANSI_QUOTES,HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION'",
  "SET SESSION time_zone = '+12:45'",
  "SET SESSION sql_mode = 'TRADITIONAL', SESSION time_zone = '-03:30'",
];
const oddKeys: Readonly<Record<string, (i: number) => unknown>> = {
  'char(26)': (i) => `01JG${two(i)}\\'`,
  'datetime(6)': (i) => `2026-10-25 02:${two(i)}:00.00000${i % 10}`,
  time: (i) => `${i - 30}:00:00`,
  year: (i) => 1990 + i,
  'decimal(60, 2)': (i) => `${'9'.repeat(50)}${two(i)}.5`,
  'bigint unsigned': (i) => String(18_446_744_073_709_551_000n + BigInt(i)),
};

describe.each(testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb'))(
  'a scan of $name in a session that was set',
  (dialect) => {
    let db: TestDatabase;
    let knex: Knex | undefined;
    beforeEach(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema, scanSchema]);
    });
    afterEach(async () => {
      await knex?.destroy();
      await db.drop();
    });

    it.each(odd)('%s: sees each row once, and writes to it', async (setting) => {
      const afterCreate = (
        connection: { query(sql: string, done: (error: Error | null) => void): void },
        done: (error: Error | null) => void,
      ) => connection.query(setting, done);
      knex = knexFactory({ client: 'mysql2', connection: db.address, pool: { min: 0, max: 4, afterCreate } });
      for (const [type, value] of Object.entries(oddKeys)) {
        await db.knex.raw(`CREATE TABLE keyed_000 (id ${type} NOT NULL PRIMARY KEY, touched INTEGER NOT NULL)`);
        await db.knex('keyed_000').insert(Array.from({ length: 60 }, (_, i) => ({ id: value((i * 7) % 60), touched: 0 })));
        const seen = new Set<string>();
        await using scan = defineScan<{ id: string }>({
          name: 'keys',
          topology: createTopology({ databases: { '01': knex }, tables: 1 }),
          table: 'keyed',
          key: ['id'],
          where: () => undefined,
          batch: 7,
          window: 11,
          state: knex,
          logger: silentLogger,
          process: async (rows, unit) => {
            for (const { id } of rows) seen.add(id);
            expect(await unit.update(rows, { touched: 1 }, { where: { touched: 0 } })).toBe(rows.length);
          },
        });
        const { exitCode, units } = await scan.run();
        expect({ type, exitCode, error: units[0]?.error, seen: seen.size }).toEqual({ type, exitCode: 0, error: undefined, seen: 60 });
        await db.knex.schema.dropTable('keyed_000');
      }
    });
  },
);
