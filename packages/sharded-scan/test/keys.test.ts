import { silentLogger } from '@holdfast/core';
import { numbers } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { createTopology, defineScan } from '../src/index.ts';
import { onEveryPair } from './suite.ts';

const n60 = Array.from({ length: 60 }, (_, i) => i);
const two = (n: number): string => String(n).padStart(2, '0');

/** Key types of MySQL and MariaDB, with 60 values in their order. */
const mysqlKinds: Readonly<Record<string, (i: number) => unknown>> = {
  'char(26)': (i) => `01JG${two(i)}`,
  'binary(4)': (i) => Buffer.from([i, 0, 255 - i, 7]),
  'varbinary(9)': (i) => Buffer.from([i, 200]),
  'decimal(20, 5)': (i) => `${i - 30}.${String(i).padStart(5, '0')}`,
  'bigint unsigned': (i) => String(18_446_744_073_709_551_000n + BigInt(i)),
  'datetime(6)': (i) => `2026-01-01 00:00:00.0000${two(i)}`,
  date: (i) => `2026-0${1 + Math.trunc(i / 28)}-${two((i % 28) + 1)}`,
  'varchar(40) character set utf8mb4': (i) => `K ${two(i)}'"\\`,
};

/** Key types, with 60 values in their order. */
const kinds: Readonly<Record<string, Readonly<Record<string, (i: number) => unknown>>>> = {
  sqlite: {
    integer: (i) => i * 3 - 50,
    text: (i) => `k ${two(i)}'"`,
    blob: (i) => Buffer.from([i, 0, 255 - i]),
    datetime: (i) => `2026-01-01 00:00:${two(i)}`,
  },
  postgres: {
    'char(26)': (i) => `01JG${two(i)}`,
    uuid: (i) => `00000000-0000-4000-8000-0000000000${two(i)}`,
    bytea: (i) => Buffer.from([i, 0, 255 - i]),
    'numeric(20, 5)': (i) => `${i - 30}.${String(i).padStart(5, '0')}`,
    timestamptz: (i) => `2026-10-25 00:59:59.0000${two(i)}+00`,
    'double precision': (i) => i / 7 - 3,
    text: (i) => `k ${two(i)}'"`,
    mood: (i) => `mood ${i}`,
  },
  mariadb: mysqlKinds,
  mysql: mysqlKinds,
};

const mysqlUnfit = ['double', 'float', 'timestamp', "enum('a', 'b')"];

/** Types that a scan could not walk. */
const unfit: Readonly<Record<string, readonly string[]>> = {
  sqlite: ['real'],
  postgres: ['money'],
  mariadb: mysqlUnfit,
  mysql: mysqlUnfit,
};

/** SQLite: declarations of a key column, and 60 values that SQLite stores in it as they are. */
const untyped: readonly (readonly [declared: string, value: (i: number) => unknown])[] = [
  ['', (i) => i * 3 - 50],
  ['', (i) => `k ${two(i)}`],
  // Texts of digits, which are not equal to the numbers.
  ['', (i) => String(1_000 - i)],
  ['', (i) => Buffer.from([i, 0, 255 - i])],
  ['blob', (i) => `text ${two(i)}`],
  ['blob', (i) => i - 30],
  ['int', (i) => `letters ${two(i)}`],
  ['text', (i) => Buffer.from([200, i])],
  ['boolean', (i) => i - 30],
  ['point', (i) => i - 30],
  ['', (i) => BigInt(i) * 3n - 50n],
  ['', (i) => 9_007_199_254_740_993n + BigInt(i)],
  ['', (i) => (i % 2 === 0 ? BigInt(i) : i)],
];

onEveryPair(
  'a scan by keys',
  (suite) => {
    const scanBy = (options: object) =>
      defineScan({
        name: 'keys',
        topology: createTopology({ databases: { '01': suite.databases[0].knex }, tables: 1 }),
        table: 'keyed',
        key: ['id'],
        where: () => undefined,
        state: suite.databases[0].knex,
        logger: silentLogger,
        process: () => undefined,
        ...options,
      });

    it('of every kind, up and down, sees each row once and writes to it', async () => {
      const { knex, name } = suite.databases[0];
      if (name === 'postgres') await knex.raw(`CREATE TYPE mood AS ENUM (${n60.map((i) => `'mood ${i}'`).join(', ')})`);
      for (const [type, value] of Object.entries(kinds[name] ?? {})) {
        await knex.raw(`CREATE TABLE keyed_000 (id ${type} NOT NULL PRIMARY KEY, touched INTEGER NOT NULL)`);
        try {
          // Inserted in another order.
          await knex('keyed_000').insert(n60.map((i) => ({ id: value((i * 7) % 60), touched: 0 })));
          for (const direction of ['asc', 'desc'] as const) {
            const seen: string[] = [];
            await using scan = scanBy({
              name: `keys-${direction}`,
              key: [{ column: 'id', direction }],
              batch: 7,
              window: 11,
              process: async (rows: { id: string }[], unit: { update(rows: unknown, set: object, where: object): Promise<number> }) => {
                expect(rows.every(({ id }) => typeof id === 'string')).toBe(true);
                seen.push(...rows.map(({ id }) => id));
                const touched = direction === 'asc' ? 0 : 1;
                expect(await unit.update(rows, { touched: touched + 1 }, { where: { touched } }), type).toBe(rows.length);
              },
            });
            const { exitCode, units } = await scan.run();
            expect({ type, exitCode, error: units[0]?.error }).toEqual({ type, exitCode: 0, error: undefined });
            expect(new Set(seen).size, type).toBe(60);
            expect(seen.length, type).toBe(60);
            expect(units[0]).toMatchObject({ examined: 60, matched: 60, handled: 60 });
          }
          expect(await knex('keyed_000').where({ touched: 2 })).toHaveLength(60);
        } finally {
          await knex.schema.dropTable('keyed_000');
        }
      }
    });

    it('of SQLite sees each row once, whatever type the column declares, and refuses classes that it cannot order', async () => {
      const { knex, name } = suite.databases[0];
      if (name !== 'sqlite') return;
      for (const [declared, value] of untyped) {
        await knex.raw(`CREATE TABLE keyed_000 (id ${declared} NOT NULL PRIMARY KEY, touched INTEGER NOT NULL)`);
        await knex('keyed_000').insert(n60.map((i) => ({ id: value((i * 7) % 60), touched: 0 })));
        for (const direction of ['asc', 'desc'] as const) {
          const seen = new Set<string>();
          await using scan = scanBy({
            name: `untyped-${direction}`,
            key: [{ column: 'id', direction }],
            batch: 7,
            window: 11,
            process: async (rows: { id: string }[], unit: { update(rows: unknown, set: object, where: object): Promise<number> }) => {
              for (const { id } of rows) seen.add(id);
              const touched = direction === 'asc' ? 0 : 1;
              expect(await unit.update(rows, { touched: touched + 1 }, { where: { touched } }), declared).toBe(rows.length);
            },
          });
          const { exitCode, units } = await scan.run();
          expect({ declared, exitCode, error: units[0]?.error, seen: seen.size }).toEqual({
            declared,
            exitCode: 0,
            error: undefined,
            seen: 60,
          });
        }
        await knex.schema.dropTable('keyed_000');
      }
      for (const [declared, values, classes] of [
        ['', [1, 'one'], 'integer and text'],
        ['', [1.5, 2.5], 'real'],
        ['', [1, 1.5], 'integer and real'],
        ['', [1e300, 2e300], 'real'],
        ['int', [1, 2, 'two'], 'integer and text'],
        ['int', [1, 1.5], 'integer and real'],
        ['text', ['a', Buffer.from('b')], 'blob and text'],
      ] as const) {
        await knex.raw(`CREATE TABLE keyed_000 (id ${declared} NOT NULL PRIMARY KEY, touched INTEGER NOT NULL)`);
        await knex('keyed_000').insert(values.map((id) => ({ id, touched: 0 })));
        await using scan = scanBy({ name: 'classes' });
        const { exitCode, units } = await scan.run();
        expect([exitCode, units[0]?.error?.code]).toEqual([1, 'not-scannable']);
        expect(units[0]?.error?.message).toContain(`holds values of the class ${classes}, whose texts`);
        await knex.schema.dropTable('keyed_000');
      }
    });

    it('by two columns reads a large group once, not from its beginning for each page', async () => {
      const { knex } = suite.databases[0];
      await knex.raw('CREATE TABLE keyed_000 (shop INTEGER NOT NULL, id INTEGER NOT NULL PRIMARY KEY)');
      try {
        await knex.raw('CREATE UNIQUE INDEX keyed_000_shop ON keyed_000 (shop, id)');
        await knex.raw(
          `INSERT INTO keyed_000 (shop, id) SELECT CASE WHEN n < 99000 THEN 1 ELSE 2 END, n FROM (${numbers(100_000)}) numbers`,
        );
        const took = async (key: readonly string[], where: unknown = () => undefined): Promise<number> => {
          await using scan = scanBy({ name: `group-${key.length}`, key, where, batch: 200, window: 1_000, process: () => undefined });
          const started = performance.now();
          const { units } = await scan.run();
          expect(units[0]).toMatchObject({ examined: 100_000 });
          return performance.now() - started;
        };
        await took(['id']);
        const one = await took(['id']);
        expect((await took(['shop', 'id'])) / one).toBeLessThan(2.5);
        // A read must not pass its window in search of more rows when almost none matches.
        const rare = (query: { where(column: string, value: number): void }): void => query.where('id', 99_999);
        await took(['id'], rare);
        expect((await took(['shop', 'id'], rare)) / (await took(['id'], rare))).toBeLessThan(4);
      } finally {
        await knex.schema.dropTable('keyed_000');
      }
    });

    it('refuses kinds that have no exact text, and indexes that do not hold each row once in the order of the key', async () => {
      const { knex, name } = suite.databases[0];
      // A server that demands primary keys would refuse these tables first.
      const create = (...statements: readonly string[]): Promise<void> =>
        // One transaction keeps one connection; these statements commit implicitly.
        knex.transaction(async (trx) => {
          if (name === 'mysql') await trx.raw('SET SESSION sql_require_primary_key = OFF');
          for (const statement of statements) await trx.raw(statement);
          if (name === 'mysql') await trx.raw('SET SESSION sql_require_primary_key = DEFAULT');
        });
      const refused = async (): Promise<string | undefined> => {
        await using scan = scanBy({ name: 'refused' });
        const { exitCode, units } = await scan.run();
        return exitCode === 1 ? units[0]?.error?.message : undefined;
      };
      for (const type of unfit[name] ?? []) {
        await knex.raw(`CREATE TABLE keyed_000 (id ${type} NOT NULL PRIMARY KEY)`);
        expect(await refused(), type).toMatch(/whose text does not sort and compare as the column does/);
        await knex.schema.dropTable('keyed_000');
      }
      const mysqlIndexes = [
        ['CREATE UNIQUE INDEX one ON keyed_000 (id, name)', 'CREATE INDEX one ON keyed_000 (id)'],
        ['CREATE UNIQUE INDEX one ON keyed_000 (id)'],
      ] as const;
      const indexes: Readonly<Record<string, readonly [refused: readonly string[], taken: readonly string[]]>> = {
        sqlite: [
          [
            'CREATE UNIQUE INDEX one ON keyed_000 (id) WHERE id > 5',
            'CREATE UNIQUE INDEX one ON keyed_000 (id, name)',
            'CREATE INDEX one ON keyed_000 (id)',
            'CREATE UNIQUE INDEX one ON keyed_000 (lower(name), id)',
          ],
          ['CREATE UNIQUE INDEX one ON keyed_000 (id)'],
        ],
        postgres: [
          [
            'CREATE UNIQUE INDEX one ON keyed_000 (id) WHERE id > 5',
            'CREATE UNIQUE INDEX one ON keyed_000 (id, name)',
            'CREATE INDEX one ON keyed_000 (id)',
            'CREATE UNIQUE INDEX one ON keyed_000 (lower(name), id)',
          ],
          ['CREATE UNIQUE INDEX one ON keyed_000 (id) INCLUDE (name)', 'CREATE UNIQUE INDEX one ON keyed_000 (id)'],
        ],
        mariadb: mysqlIndexes,
        mysql: mysqlIndexes,
      };
      const [no = [], yes = []] = indexes[name] ?? [];
      for (const [statements, taken] of [
        [no, false],
        [yes, true],
      ] as const)
        for (const statement of statements) {
          await create('CREATE TABLE keyed_000 (id INTEGER NOT NULL, name VARCHAR(40) NOT NULL)', statement);
          if (taken) expect(await refused(), statement).toBeUndefined();
          else expect(await refused(), statement).toContain('CREATE UNIQUE INDEX keyed_000_id ON keyed_000 (id)');
          await knex.schema.dropTable('keyed_000');
        }
      if (name !== 'mariadb' && name !== 'mysql') return;
      // No read would use such an index.
      const hidden = name === 'mysql' ? 'INVISIBLE' : 'IGNORED';
      await create(
        'CREATE TABLE keyed_000 (n INTEGER NOT NULL PRIMARY KEY, id INTEGER NOT NULL, name VARCHAR(40) NOT NULL)',
        `CREATE UNIQUE INDEX one ON keyed_000 (id) ${hidden}`,
      );
      expect(await refused()).toContain('CREATE UNIQUE INDEX keyed_000_id');
      await knex.schema.dropTable('keyed_000');
      // An index on a prefix of ten letters does not give the order of the names.
      await create('CREATE TABLE keyed_000 (id VARCHAR(40) NOT NULL)', 'CREATE UNIQUE INDEX one ON keyed_000 (id(10))');
      expect(await refused()).toContain('CREATE UNIQUE INDEX keyed_000_id');
      await knex.schema.dropTable('keyed_000');
    });
  },
  ['sqlite', 'postgres', 'mariadb', 'mysql'],
);
