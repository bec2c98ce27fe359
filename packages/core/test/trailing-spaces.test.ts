import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { coreSchema, KeyGate, keepTrailingSpaces, LeaseTable, migrate, Once, Slots } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('keys that differ in trailing spaces', (suite) => {
  it('are different keys: once, leases, gates and slots', async () => {
    const { database } = suite;
    const once = new Once(database);
    for (const key of ['K', 'K ', 'K  ']) {
      expect(await database.transaction((sql) => once.enter(sql, 'scope', key, 60_000))).toEqual({ first: true });
      await database.transaction((sql) => once.setRef(sql, 'scope', key, key.length.toString()));
    }
    expect(await database.transaction((sql) => once.enter(sql, 'scope ', 'K', 60_000))).toEqual({ first: true });
    expect(await database.transaction((sql) => once.enterMany(sql, 'scope', ['K', 'K   ', 'K '], 60_000))).toEqual([false, true, false]);
    const refs = await database.use((sql) => once.findMany(sql, 'scope', ['K', 'K ', 'K  ']));
    expect(refs).toEqual(
      new Map([
        ['K', '1'],
        ['K ', '2'],
        ['K  ', '3'],
      ]),
    );
    const leases = new LeaseTable(database);
    expect(await leases.acquire('scope', 'K', 'one', 60_000)).toMatchObject({ name: 'K' });
    expect(await leases.acquire('scope', 'K ', 'two', 60_000)).toMatchObject({ name: 'K ' });
    expect((await leases.acquireAll('scope', ['L', 'L '], 'three', 60_000)).map(({ name }) => name)).toEqual(['L', 'L ']);
    const gate = new KeyGate(database);
    await database.transaction(async (sql) => {
      expect(await gate.lock(sql, 'scope', 'K')).toBeNull();
      await gate.setHead(sql, 'scope', 'K', '7');
      expect(await gate.lock(sql, 'scope', 'K ')).toBeNull();
    });
    const slots = new Slots(database);
    await slots.ensure('S', 1);
    await slots.ensure('S ', 1);
    await database.transaction(async (sql) => slots.take(sql, 'S', await slots.lockFree(sql, 'S', 1), ['holder']));
    expect(await slots.holders('S ')).toEqual([]);
  });
});

onEveryDatabase(
  'tables of an earlier version, which left out trailing spaces,',
  (suite) => {
    const pad = async () => {
      await suite.db.knex('holdfast_once').delete();
      await suite.db.knex.raw('ALTER TABLE holdfast_once CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin');
      await suite.db.knex('holdfast_core_migrations').where({ name: '0003_trailing_spaces' }).delete();
    };

    it('are changed by migrate, with their rows', async () => {
      await pad();
      await suite.db.knex('holdfast_once').insert({ scope: 'old', once_key: 'K', ref: '1', expires_at: 9e12 });
      expect(await migrate(suite.db.knex, [coreSchema])).toEqual({ core: ['0003_trailing_spaces'] });
      const once = new Once(suite.database);
      expect(await suite.database.transaction((sql) => once.enter(sql, 'old', 'K', 60_000))).toEqual({ first: false, ref: '1' });
      expect(await suite.database.transaction((sql) => once.enter(sql, 'old', 'K ', 60_000))).toEqual({ first: true });
      expect(await migrate(suite.db.knex, [coreSchema])).toEqual({ core: [] });
    });

    it('are refused if they are large, with the statement to run, which is all that is needed', async () => {
      await pad();
      await suite.db
        .knex('holdfast_once')
        .insert(Array.from({ length: 50 }, (_, n) => ({ scope: 'big', once_key: `${n}`, expires_at: 1 })));
      await suite.db.knex.raw('ANALYZE TABLE holdfast_once');
      const change = () =>
        suite.database.use((sql) => keepTrailingSpaces(suite.database, sql, ['holdfast_once'], undefined, { rows: 10, bytes: 2 ** 40 }));
      const error = await change().catch((thrown: Error) => thrown as Error & { code: string });
      expect(error).toMatchObject({ code: 'invalid-argument' });
      const [, statement = ''] = /Run (ALTER TABLE .*) at a quiet hour/.exec((error as Error).message) ?? [];
      await suite.db.knex.raw(statement);
      expect(await change()).toEqual([]);
      expect(await migrate(suite.db.knex, [coreSchema])).toEqual({ core: ['0003_trailing_spaces'] });
    });

    it('are not waited for while another transaction holds them: migrate tries again', { timeout: 30_000 }, async () => {
      await pad();
      const holder = await suite.db.knex.transaction();
      await holder.raw('SELECT * FROM holdfast_once LIMIT 1');
      const migrated = migrate(suite.db.knex, [coreSchema]);
      try {
        const waiting = async () => {
          const [rows] = await suite.db.knex.raw(
            "SELECT state FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'ALTER TABLE `holdfast_once`%'",
          );
          return (rows as unknown[]).length > 0;
        };
        await until(waiting, { withinMs: 10_000 });
      } finally {
        await holder.commit();
      }
      expect(await migrated).toEqual({ core: ['0003_trailing_spaces'] });
    });
  },
  ['mysql', 'mariadb'],
);
