import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database, listenWaker, silentLogger, Wakers } from '../src/index.ts';
import { canPool, type Pooler, startPooler } from './pgbouncer.ts';

const server = process.env.HOLDFAST_POSTGRES_URL;

describe.runIf(server && canPool)('LISTEN', () => {
  let pooler: Pooler;
  beforeAll(async () => {
    pooler = await startPooler(server ?? '');
  });
  afterAll(() => pooler?.stop());

  it.each([
    ['delivers over a direct connection', () => server ?? '', true],
    ['is found out behind a pooler that drops it', () => pooler.address, false],
  ])('%s', async (_name, address, reliable) => {
    const knex = knexFactory({ client: 'pg', connection: address() });
    const database = new Database({ knex });
    const said: string[] = [];
    const note = (_fields: object, message: string) => void said.push(message);
    const waker = listenWaker(database, { logger: { ...silentLogger, debug: note, warn: note }, selfTestMs: 100, deliveryMs: 300 });
    let woken = 0;
    waker.listen('news', () => {
      woken += 1;
    });
    if (reliable) {
      await until(() => waker.reliable);
      const before = woken;
      waker.wake('news');
      await until(() => woken > before);
    } else {
      await until(() => said.some((line) => line.includes('does not deliver')));
      expect(waker.reliable).toBe(false);
    }
    await waker.close();
    await database.close();
    await knex.destroy();
  });

  it('is not opened by a wake-up that comes after close', async () => {
    const knex = knexFactory({ client: 'pg', connection: server ?? '' });
    const database = new Database({ knex });
    let opened = 0;
    const open = database.rawConnection.bind(database);
    database.rawConnection = () => {
      opened += 1;
      return open();
    };
    const wakers = new Wakers({ database, channel: 'news', logger: silentLogger });
    wakers.wake();
    await until(() => opened === 1);
    await wakers.close();
    wakers.wake();
    expect([opened, wakers.reliable]).toEqual([1, false]);
    await database.close();
    await knex.destroy();
  });
});
