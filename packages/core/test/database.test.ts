import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { expect, it } from 'vitest';
import { isMissingTable } from '../src/database/transient.ts';
import {
  afterCommit,
  coreSchema,
  Database,
  DatabaseUnavailableError,
  describeDatabase,
  migrate,
  NotInTransactionError,
  TransactionDoomedError,
} from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('database', (suite) => {
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  it('describes the server', async () => {
    const description = await describeDatabase(suite.db.knex);
    expect(description.dialect).toBe(suite.db.name);
    expect(description.version).toMatch(/^\d+\./);
    expect(
      description.testedOn.some((version) => description.version.startsWith(`${version}.`)),
      description.version,
    ).toBe(true);
  });

  it('knows a missing table by its code, in whatever language the server speaks', async () => {
    const missing = await suite.database.rows('SELECT 1 FROM no_such_table').catch((error: unknown) => error);
    const broken = await suite.database.rows('SELECT FROM WHERE').catch((error: unknown) => error);
    expect([isMissingTable(missing), isMissingTable(broken)]).toEqual([true, false]);
    expect(isMissingTable(Object.assign(new Error('Relation »x« existiert nicht'), { code: '42P01' }))).toBe(true);
  });

  // The other drivers send values separately from the statement.
  if (suite.name === 'mysql' || suite.name === 'mariadb')
    it('refuses a value that has no literal, and keeps the connection', async () => {
      const impatient = new Database({ knex: suite.db.knex, statementTimeout: 200, loopConnections: 1 });
      const [before] = await impatient.rows('SELECT CONNECTION_ID() AS id');
      await expect(impatient.rows('SELECT ? AS one', [Symbol('s')])).rejects.toThrow(/has no literal/);
      await new Promise((resolve) => setTimeout(resolve, 400));
      expect(await impatient.rows('SELECT CONNECTION_ID() AS id')).toEqual([before]);
      await impatient.close();
    });

  it('reads the time in epoch ms from the database, plus the offset, in any session time zone', async () => {
    if (suite.database.family === 'mysql') await suite.database.run("SET time_zone = '+09:00'");
    expect(Math.abs((await suite.database.now()) - Date.now())).toBeLessThan(2_000);
    suite.database.clockOffsetMs = 3_600_000;
    expect((await suite.database.now()) - Date.now()).toBeGreaterThan(3_590_000);
    suite.database.clockOffsetMs = 0;
  });

  if (suite.name === 'postgres')
    it('reads the text of a value in one form, whatever the settings of the role are, and keeps its time zone', async () => {
      const url = new URL(suite.db.address);
      url.search = '';
      const set =
        '-c DateStyle=SQL,DMY -c TimeZone=Asia/Shanghai -c IntervalStyle=sql_standard -c extra_float_digits=-15 -c bytea_output=escape';
      const knex = knexFactory({ client: 'pg', connection: { connectionString: url.href, options: set }, pool: { min: 0, max: 2 } });
      const own = new Database({ knex });
      const sql = `SELECT '2026-02-03'::date::text AS day, '03/02/2026'::date = '2026-02-03'::date AS day_first, '1 day -2 hours'::interval::text AS span, (1::float8 / 3)::text AS third, '\\x00ff'::bytea::text AS bytes, '2026-02-03 00:00:00'::timestamp AT TIME ZONE 'UTC' AS at, current_setting('TimeZone') AS zone`;
      const right = {
        day: '2026-02-03',
        day_first: true,
        span: '1 day -02:00:00',
        third: '0.3333333333333333',
        bytes: '\\x00ff',
        at: new Date('2026-02-03T00:00:00Z'),
        zone: 'Asia/Shanghai',
      };
      try {
        // A process without loops borrows the service's connections; one with loops has its own.
        expect(await own.rows(sql)).toEqual([right]);
        const end = own.runLoops();
        expect(await own.rows(sql)).toEqual([right]);
        expect(await own.transaction((runner) => runner.rows(sql))).toEqual([right]);
        end();
        const raw = await own.rawConnection();
        expect(await raw.sql.rows(sql)).toEqual([right]);
        await raw.close();
        // The service's own connections stay as they are.
        expect((await knex.raw("SELECT current_setting('DateStyle') AS style")).rows).toEqual([{ style: 'SQL, DMY' }]);
      } finally {
        await own.close();
        await knex.destroy();
      }
    });

  it('calls afterCommit hooks only once the root transaction has committed', async () => {
    const { knex } = suite.db;
    const calls: string[] = [];
    await knex.transaction(async (trx) => {
      await afterCommit(trx, () => calls.push('root'));
      await trx.transaction(async (nested) => {
        await afterCommit(nested, () => calls.push('nested'));
      });
      await trx
        .transaction(async (nested) => {
          await afterCommit(nested, () => calls.push('rolled back savepoint'));
          throw new Error('no');
        })
        .catch(() => undefined);
      await settled();
      expect(calls).toEqual([]);
    });
    await until(() => calls.length === 2);
    expect(calls).toEqual(['root', 'nested']);
    await knex
      .transaction(async (trx) => {
        await afterCommit(trx, () => calls.push('rolled back'));
        throw new Error('no');
      })
      .catch(() => undefined);
    const handle = await knex.transaction();
    await afterCommit(handle, () => calls.push('handle rolled back'));
    await handle.rollback();
    await settled();
    expect(calls).toEqual(['root', 'nested']);
    await expect(afterCommit(knex as never, () => undefined)).rejects.toThrow(NotInTransactionError);
  });

  it.each([
    ['deadlocks', "SET LOCAL deadlock_timeout = '5ms'"],
    ['serialization failures', "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SET LOCAL deadlock_timeout = '5ms'"],
    ['lock time-outs', "SET LOCAL lock_timeout = '20ms'; SET LOCAL deadlock_timeout = '10s'"],
  ])('retries its own transaction when it loses a race, with nothing half done (%s)', async (_name, postgres) => {
    await suite.db.knex.schema.dropTableIfExists('race');
    await suite.db.knex.schema.createTable('race', (t) => {
      t.integer('id').primary();
      t.integer('n').notNullable();
    });
    await suite.db.knex('race').insert([
      { id: 1, n: 0 },
      { id: 2, n: 0 },
    ]);
    let tries = 0;
    const cross = (first: number, second: number, meet: () => Promise<void>) => {
      let met = false;
      return suite.database.transaction(async (sql) => {
        tries += 1;
        if (suite.db.name === 'postgres') for (const setting of postgres.split('; ')) await sql.run(setting);
        await sql.run(`UPDATE race SET n = n + 1 WHERE id = ${first}`);
        if (!met) await meet();
        met = true;
        await sql.run(`UPDATE race SET n = n + 1 WHERE id = ${second}`);
      });
    };
    const rounds = 100;
    for (let round = 0; round < rounds; round++) {
      // Each transaction holds the lock that the other needs. SQLite has one writer, so there are no conflicts.
      let here = 0;
      const meet = async () => {
        here += 1;
        if (suite.db.name !== 'sqlite') await until(() => here === 2);
      };
      await Promise.all([cross(1, 2, meet), cross(2, 1, meet)]);
    }
    expect(tries).toBeGreaterThanOrEqual(suite.db.name === 'sqlite' ? 2 * rounds : 3 * rounds);
    expect((await suite.db.knex('race').orderBy('id')).map((row) => row.n)).toEqual([2 * rounds, 2 * rounds]);
  });

  it('lets two processes migrate at once, and services with different lists share a database', async () => {
    const schemaOf = (name: string) => ({
      name,
      migrations: [{ name: '0001_create', statements: () => [`CREATE TABLE own_${name} (id INTEGER PRIMARY KEY)`] }],
    });
    const other = suite.db.connect();
    const results = await Promise.all([
      migrate(suite.db.knex, [coreSchema, schemaOf('a')]),
      migrate(other, [schemaOf('a'), schemaOf('b')]),
    ]);
    expect(results.map((result) => result.a?.length ?? 0).sort()).toEqual([0, 1]);
    expect(await migrate(suite.db.knex, [coreSchema])).toEqual({ core: [] });
  });

  it('refuses tables of a newer version, and names the migrations that it does not know', async () => {
    const create = { name: '0001_create', statements: () => ['CREATE TABLE newer (id INTEGER PRIMARY KEY)'] };
    const later = { name: '0002_later', statements: () => ['CREATE TABLE later (id INTEGER PRIMARY KEY)'] };
    await migrate(suite.db.knex, [{ name: 'newer', migrations: [create, later] }]);
    await expect(migrate(suite.db.knex, [{ name: 'newer', migrations: [create] }])).rejects.toThrow('0002_later');
  });

  it('works with one loop connection without deadlocking', async () => {
    const one = new Database({ knex: suite.db.knex, loopConnections: 1 });
    await Promise.all(Array.from({ length: 10 }, () => one.transaction((sql) => sql.rows('SELECT 1 AS one'))));
    await one.close();
  });
});

onEveryDatabase(
  'a doomed transaction',
  (suite) => {
    it('accepts nothing after the deadlock that rolled it back, and its hooks do not run', async () => {
      const { knex } = suite.db;
      await knex.schema.createTable('doom', (t) => {
        t.integer('id').primary();
        t.integer('n').notNullable();
      });
      await knex('doom').insert([
        { id: 1, n: 0 },
        { id: 2, n: 0 },
      ]);
      const hooks: string[] = [];
      const run = async (name: string, first: number, second: number, gate: Promise<unknown>, reached: () => void) =>
        knex.transaction(async (trx) => {
          await afterCommit(trx, () => hooks.push(name));
          await trx('doom').where({ id: first }).increment('n', 1);
          reached();
          await gate;
          // The caller swallows the deadlock and continues.
          await trx('doom')
            .where({ id: second })
            .increment('n', 1)
            .catch(() => undefined);
          await trx('doom').insert({ id: 10 + first, n: 1 });
        });
      const a = Promise.withResolvers<void>();
      const b = Promise.withResolvers<void>();
      const results = await Promise.allSettled([run('a', 1, 2, b.promise, a.resolve), run('b', 2, 1, a.promise, b.resolve)]);
      const refused = results.filter((result) => result.status === 'rejected');
      expect(refused).toHaveLength(1);
      expect(TransactionDoomedError.is(refused[0]?.reason, 'transaction-doomed')).toBe(true);
      await until(() => hooks.length === 1);
      const rows = await knex('doom').orderBy('id');
      expect(rows).toHaveLength(3);
      expect(rows.slice(0, 2).map((row) => row.n)).toEqual([1, 1]);
    });
  },
  ['mariadb', 'mysql'],
);

onEveryDatabase(
  'a swallowed error',
  (suite) => {
    it('turns COMMIT into ROLLBACK, and hooks do not run', async () => {
      let called = false;
      await suite.db.knex.transaction(async (trx) => {
        await afterCommit(trx, () => {
          called = true;
        });
        await trx.raw('SELECT 1 / 0').catch(() => undefined);
      });
      await new Promise((resolve) => setImmediate(resolve));
      expect(called).toBe(false);
    });

    it('reports an unknown outcome when the database does not answer in time', async () => {
      const impatient = new Database({ knex: suite.db.knex, statementTimeout: 100 });
      await expect(impatient.rows('SELECT pg_sleep(5)')).rejects.toThrow(DatabaseUnavailableError);
      expect(await impatient.rows('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await impatient.close();
    });
  },
  ['postgres'],
);
