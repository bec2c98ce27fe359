import { randomBytes } from 'node:crypto';
import { throughProxy, until } from '@holdfast/core/testing';
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
});

describe.runIf(server)('a waker whose connection is cut', () => {
  it('can be closed, and does not wait for an answer that never comes', async () => {
    const through = await throughProxy(server ?? '');
    const database = new Database({ knex: through.knex });
    const waker = listenWaker(database, { logger: silentLogger });
    waker.listen('news', () => undefined);
    await until(() => waker.reliable);
    through.proxy.set('stall');
    let closed = false;
    const closing = waker.close().then(() => {
      closed = true;
    });
    try {
      await until(() => closed, { withinMs: 10_000 });
    } finally {
      await through.proxy.close();
      await closing;
      await database.close();
      await through.knex.destroy();
    }
  });
});

describe.runIf(server)('the connections of a process', () => {
  /** A knex, and the count of its connections at the server by what they do. */
  const open = async () => {
    const name = `t_${randomBytes(6).toString('hex')}`;
    const knex = knexFactory({ client: 'pg', connection: `${server}?application_name=${name}`, pool: { min: 0, max: 3 } });
    const asking = knexFactory({ client: 'pg', connection: server ?? '', pool: { min: 0, max: 1 } });
    const count = async (which = ''): Promise<number> => {
      const { rows } = await asking.raw(`SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = ? ${which}`, [name]);
      return Number(rows[0].n);
    };
    return {
      knex,
      /** Connections that are not of the pool of the service's knex. */
      ours: async () => (await count()) - (knex.client.pool.numFree() + knex.client.pool.numUsed()),
      listening: () => count("AND query LIKE 'LISTEN%'"),
      async [Symbol.asyncDispose]() {
        await knex.destroy();
        await asking.destroy();
      },
    };
  };

  it('are those of its own knex as long as no loop runs in it', async () => {
    await using process = await open();
    const database = new Database({ knex: process.knex });
    const wakers = new Wakers({ database, channel: 'news', logger: silentLogger });
    await database.transaction((sql) => sql.rows('SELECT 1'));
    await Promise.all([database.rows('SELECT 1'), database.run('SELECT 1')]);
    // A wake-up goes out over a connection of the service, too.
    await using other = await open();
    const elsewhere = new Wakers({ database: new Database({ knex: other.knex }), channel: 'news', logger: silentLogger });
    let woken = 0;
    const unlisten = elsewhere.listen(() => void (woken += 1));
    await until(() => elsewhere.reliable);
    const before = woken;
    wakers.wake();
    await until(() => woken > before);
    expect(await process.ours()).toBe(0);
    unlisten();
    await elsewhere.close();
    await wakers.close();
    await database.close();
  });

  it('are the loops’ own where the service has none free, also for a pool of one', async () => {
    await using process = await open();
    const database = new Database({ knex: process.knex });
    const held = await Promise.all([1, 2, 3].map(() => process.knex.transaction()));
    expect(await database.rows('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await process.ours()).toBe(1);
    for (const trx of held) await trx.rollback();
    await database.close();
    await until(async () => (await process.ours()) === 0);
  });

  it('are the loops’ own where the defaults of the service’s connections do not fit', async () => {
    await using process = await open();
    const strict = knexFactory({
      ...process.knex.client.config,
      pool: {
        min: 0,
        max: 2,
        afterCreate: (connection: { query(sql: string, done: (error: unknown) => void): void }, done: (error: unknown) => void) =>
          connection.query("SET default_transaction_isolation = 'serializable'", done),
      },
    });
    const database = new Database({ knex: strict });
    expect(await database.rows("SELECT current_setting('transaction_isolation') AS level")).toEqual([{ level: 'read committed' }]);
    await database.close();
    await strict.destroy();
  });

  it('are one pool of loops and one LISTEN for all packages, opened by the first that runs and closed by the last', async () => {
    await using process = await open();
    const many = Array.from({ length: 5 }, (_, i) => {
      const database = new Database({ knex: process.knex, loopConnections: i === 3 ? 3 : 2 });
      return { database, wakers: new Wakers({ database, channel: `c${i}`, logger: silentLogger }) };
    });
    const ends = many.map(({ wakers }) => wakers.listen(() => undefined));
    for (const { wakers } of many) await until(() => wakers.reliable);
    await Promise.all(many.flatMap(({ database }) => [1, 2, 3, 4].map(() => database.rows('SELECT pg_sleep(0.05)'))));
    expect(await process.ours()).toBe(3 + 1);
    expect(await process.listening()).toBe(1);
    // The last to stop ends LISTEN, and a start opens it again.
    for (const end of ends.slice(1)) end();
    expect(many[0]?.wakers.reliable).toBe(true);
    ends[0]?.();
    await until(async () => (await process.listening()) === 0);
    const again = many[2]?.wakers.listen(() => undefined);
    await until(async () => (await process.listening()) === 1);
    again?.();
    for (const { wakers, database } of many) {
      expect(await database.rows('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await wakers.close();
      await database.close();
      await expect(database.rows('SELECT 1')).rejects.toThrow(/after close/);
    }
    await until(async () => (await process.ours()) === 0);
  });

  it('are not opened by a wake-up or a listener that comes after close', async () => {
    await using process = await open();
    const database = new Database({ knex: process.knex });
    const wakers = new Wakers({ database, channel: 'news', logger: silentLogger });
    await wakers.close();
    wakers.wake();
    wakers.listen(() => undefined);
    expect([wakers.reliable, await process.ours()]).toEqual([false, 0]);
    await database.close();
  });
});
