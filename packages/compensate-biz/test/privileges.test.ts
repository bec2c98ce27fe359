import { randomBytes } from 'node:crypto';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

const dialects = testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb');
if (dialects.length === 0) it.skip('privileges: neither mysql nor mariadb is up', () => undefined);

describe.each(dialects)('an account of $name with few rights', (dialect) => {
  let db: TestDatabase;
  const accounts: string[] = [];
  const knexes: Knex[] = [];
  beforeEach(async () => {
    db = await dialect.create();
  });
  afterEach(async () => {
    for (const knex of knexes.splice(0)) await knex.destroy();
    for (const account of accounts.splice(0)) await db.knex.raw(`DROP USER '${account}'@'%'`);
    await db.drop();
  });
  /** A knex under an account that has these rights on the test's database, and no others. */
  const account = async (rights: string): Promise<Knex> => {
    const name = `t_${randomBytes(5).toString('hex')}`;
    const url = new URL(db.address);
    await db.knex.raw(`CREATE USER '${name}'@'%' IDENTIFIED BY 'secret'`);
    accounts.push(name);
    await db.knex.raw(`GRANT ${rights} ON \`${url.pathname.slice(1)}\`.* TO '${name}'@'%'`);
    url.username = name;
    url.password = 'secret';
    const knex = knexFactory({ client: 'mysql2', connection: url.href, pool: { min: 0, max: 4 } });
    knexes.push(knex);
    return knex;
  };

  it('migrates with SELECT, INSERT, CREATE, ALTER and INDEX, and works with SELECT, INSERT, UPDATE and DELETE', async () => {
    const owner = await account('SELECT, INSERT, CREATE, ALTER, INDEX');
    await migrate(owner, [coreSchema, compensateBizSchema]);
    const knex = await account('SELECT, INSERT, UPDATE, DELETE');
    const biz = createCompensateBiz({
      knex,
      logger: silentLogger,
      types: { echo: bizType(any, { keep: 'none' }), serial: bizType(any, { serial: true }) },
    });
    let ran = 0;
    biz.handle('echo', () => {
      ran += 1;
    });
    biz.handle('serial', (_context, run) => {
      run.submit('echo', {});
    });
    try {
      await using worker = biz.worker();
      await worker.start();
      await biz.now().submitMany('echo', [{}, {}, {}]);
      await knex.transaction(async (trx) => {
        await biz.in(trx).submit('serial', {}, { bizId: '1', once: 'o' });
      });
      await until(() => ran === 4);
      await until(async () => (await db.knex('compensate_biz').whereNot({ status: 'SUCCESS' })).length === 0);
      expect((await biz.sweep()).rescued ?? 0).toBe(0);
    } finally {
      await biz.close();
    }
  });
});
