import { checkMigrated, coreSchema, migrate, openDatabase, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

/** Settings that services and administrators really make, on every connection of the service's pool. */
const odd = [
  "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH,ONLY_FULL_GROUP_BY,STRICT_ALL_TABLES'",
  "SET SESSION sql_mode = ''",
  'SET SESSION autocommit = 0',
  'SET SESSION sql_safe_updates = 1',
  'SET SESSION sql_select_limit = 7',
  "SET SESSION time_zone = '+12:45'",
  'SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE',
];
const texts = [
  "it's",
  'a\\',
  "\\'; DROP TABLE compensate_biz; -- ",
  '"quoted" `and` ??',
  'NUL-free \u{1F600} 张三',
  '{"now":"{now}"}',
  '\\\\n\n',
];
const dialects = testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb');
if (dialects.length === 0) it.skip('odd sessions: neither mysql nor mariadb is up', () => undefined);

describe.each(dialects)('a session of $name that was set by somebody else', (dialect) => {
  let db: TestDatabase;
  let knex: Knex | undefined;
  beforeEach(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
  });
  afterEach(async () => {
    await knex?.destroy();
    await db.drop();
  });

  it.each(odd)('%s: tasks are accepted, run and ended, texts whole', async (setting) => {
    const afterCreate = (
      connection: { query(sql: string, done: (error: Error | null) => void): void },
      done: (error: Error | null) => void,
    ) => connection.query(setting, done);
    knex = knexFactory({ client: 'mysql2', connection: db.address, pool: { min: 0, max: 4, afterCreate } });
    const biz = createCompensateBiz({ knex, logger: silentLogger, types: { echo: bizType(any), serial: bizType(any, { serial: true }) } });
    const seen: unknown[] = [];
    biz.handle('echo', (context) => void seen.push(context));
    const order: unknown[] = [];
    biz.handle('serial', (context) => void order.push((context as { n: number }).n));
    try {
      await using worker = biz.worker();
      await worker.start();
      await biz.now().submitMany(
        'echo',
        texts.map((text) => ({ text })),
      );
      for (const n of [1, 2, 3]) await biz.now().submit('serial', { n }, { bizId: "o'clock\\", once: `${n} ${texts[1]}` });
      // Inside the caller's own transaction, on the caller's own connection.
      const late = texts.map((text) => ({ late: text }));
      await knex.transaction(async (trx) => {
        for (const context of late) await biz.in(trx).submit('echo', context);
      });
      const all = [...texts.map((text) => ({ text })), ...late];
      await until(() => seen.length >= all.length && order.length === 3);
      expect(seen).toHaveLength(all.length);
      expect(seen).toEqual(expect.arrayContaining(all));
      expect(order).toEqual([1, 2, 3]);
      const ended = async () => Number((await db.knex('compensate_biz').where({ status: 'SUCCESS' }).count({ n: '*' }))[0]?.n);
      await until(async () => (await ended()) === all.length + 3);
    } finally {
      await biz.close();
    }
  });

  it('records every migration where the server sets autocommit = 0', async () => {
    const fresh = await dialect.create();
    const client = Object.getPrototypeOf(fresh.knex.client) as {
      acquireRawConnection(): Promise<{ promise(): { query(sql: string): Promise<unknown> } }>;
    };
    const acquire = client.acquireRawConnection;
    const spy = vi.spyOn(client, 'acquireRawConnection').mockImplementation(async function (this: unknown) {
      const connection = await acquire.call(this as typeof client);
      await connection.promise().query('SET SESSION autocommit = 0');
      return connection;
    });
    try {
      await migrate(fresh.knex, [coreSchema, compensateBizSchema]);
    } finally {
      spy.mockRestore();
    }
    const database = openDatabase({ knex: fresh.knex });
    try {
      expect(await checkMigrated(database, [coreSchema, compensateBizSchema])).toEqual([]);
    } finally {
      await database.close();
      await fresh.drop();
    }
  });
});
