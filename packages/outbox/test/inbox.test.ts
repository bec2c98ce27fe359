import { reject } from '@holdfast/broker';
import { memoryBroker } from '@holdfast/broker/memory';
import { every, silentLogger, uuidv7, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { beforeAll, expect, it } from 'vitest';
import { messageOf } from './message-of.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('the inbox', (suite) => {
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.string('message_id');
    });
  });
  const effects = async (id: string): Promise<number> =>
    Number((await suite.db.knex('effects').where({ message_id: id }).count({ n: '*' }))[0]?.n);

  it('runs once, though it is called several times, also at once, and again after a rollback', async () => {
    const inbox = suite.inbox();
    const id = uuidv7();
    const handle = () =>
      suite.db.knex.transaction((trx) =>
        inbox.once(trx, { consumer: 'billing', messageId: id }, async () => {
          await trx('effects').insert({ message_id: id });
          await wait(20);
          return 'done';
        }),
      );
    await expect(
      suite.db.knex.transaction(async (trx) => {
        await inbox.once(trx, { consumer: 'billing', messageId: id }, () => trx('effects').insert({ message_id: id }));
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    const results = await Promise.allSettled([handle(), handle(), handle(), handle()]);
    // MariaDB may end one of them as a deadlock's victim, to be run again.
    const values = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(values.filter(({ duplicate }) => !duplicate)).toEqual([{ duplicate: false, value: 'done' }]);
    expect(await handle()).toEqual({ duplicate: true });
    expect(await effects(id)).toBe(1);
    const other = await suite.db.knex.transaction((trx) => inbox.once(trx, { consumer: 'mail', messageId: id }, () => 'mail'));
    expect(other).toEqual({ duplicate: false, value: 'mail' });
  });

  it.each(['handler', 'handleMany'] as const)('rolls a %s back that never ends, and goes on with this message and others', async (kind) => {
    const broker = memoryBroker();
    const inbox = suite.inbox();
    const [deaf, next] = [uuidv7(), uuidv7()];
    const signals: AbortSignal[] = [];
    let calls = 0;
    const handle = async (id: string, trx: Knex.Transaction): Promise<void> => {
      await trx('effects').insert({ message_id: id });
      if (id === deaf && calls++ === 0) await new Promise(() => undefined);
    };
    const options = {
      subscriber: broker,
      topic: 'orders',
      consumer: `deaf-${kind}`,
      handlerTimeoutMs: 100,
      retry: every('20ms'),
    };
    const consumption = suite.use(
      await inbox.consume(
        kind === 'handler'
          ? {
              ...options,
              handler: async ({ id }, trx, { signal }) => {
                signals.push(signal);
                await handle(id, trx);
              },
            }
          : { ...options, handleMany: async (messages, trx) => void (await Promise.all(messages.map(({ id }) => handle(id, trx)))) },
      ),
    );
    const results = await broker.publish([messageOf(deaf), messageOf(next)]);
    expect(results.map(({ outcome }) => outcome)).toEqual(['acked', 'acked']);
    expect([await effects(deaf), await effects(next)]).toEqual([1, 1]);
    if (kind === 'handler') expect(signals.some(({ aborted }) => aborted)).toBe(true);
    await consumption.close();
    await broker.close();
  });

  it('hands over together what arrives together, each once, and alone what fails', async () => {
    const broker = memoryBroker();
    const inbox = suite.inbox();
    const sizes: number[] = [];
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: 'orders',
        consumer: 'together',
        retry: every('20ms'),
        handleMany: async (messages, trx) => {
          sizes.push(messages.length);
          await trx('effects').insert(messages.map(({ id }) => ({ message_id: id })));
          if (messages.some(({ id }) => id.endsWith('bad'))) return reject('bad');
          if (messages.some(({ id }) => id.endsWith('poor')) && sizes.length < 12) throw new Error('not yet');
          return undefined;
        },
      }),
    );
    const prefix = uuidv7();
    const ids = Array.from({ length: 300 }, (_, i) => `${prefix}-${i}${i === 150 ? 'bad' : i === 200 ? 'poor' : ''}`);
    await broker.publish(ids.flatMap((id) => [messageOf(id), messageOf(id)]));
    await until(() => consumption.counts.handled === 299 && consumption.counts.duplicates >= 299, { withinMs: 20_000 });
    expect(Math.max(...sizes)).toBeGreaterThan(10);
    const counts = await suite.db.knex('effects').where('message_id', 'like', `${prefix}%`).groupBy('message_id').count({ n: '*' });
    expect(counts).toHaveLength(299);
    expect(counts.every(({ n }) => Number(n) === 1)).toBe(true);
    expect(consumption.counts.rejected).toBeGreaterThanOrEqual(1);
    await expect(inbox.consume({ subscriber: broker, topic: 'orders', consumer: 'neither' })).rejects.toThrow('pass one of them');
  });

  it('does not note what failed inside a transaction that goes on', async () => {
    const inbox = suite.inbox();
    const id = uuidv7();
    await suite.db.knex.transaction(async (trx) => {
      await inbox
        .once(trx, { consumer: 'billing', messageId: id }, () => {
          throw new Error('swallowed');
        })
        .catch(() => undefined);
    });
    const again = await suite.db.knex.transaction((trx) => inbox.once(trx, { consumer: 'billing', messageId: id }, () => 1));
    expect(again).toEqual({ duplicate: false, value: 1 });
  });

  it('ties broker, inbox and transaction together', async () => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const inbox = suite.inbox();
    let failures = 2;
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: 'orders',
        consumer: 'billing',
        retry: every(10),
        handler: async (delivered, trx) => {
          await trx('effects').insert({ message_id: delivered.id });
          if (delivered.id === 'bad') return reject('no such order');
          if (delivered.id === 'flaky' && failures-- > 0) throw new Error('not yet');
        },
      }),
    );
    const batch = ['one', 'bad', 'flaky', 'one', 'two', 'two'].map((id) => messageOf(id));
    await broker.publish(batch);
    expect(consumption.counts).toMatchObject({ handled: 3, duplicates: 2, failed: 2, rejected: 1 });
    for (const [id, count] of Object.entries({ one: 1, two: 1, flaky: 1, bad: 0 })) expect(await effects(id)).toBe(count);
    expect(broker.dead.map(({ reason }) => reason)).toEqual(['no such order']);
  });

  it('sets aside what is too old to be known, counts it, and handles it on demand', async () => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const inbox = suite.inbox({ retention: '1h' });
    const old = (id: string) => messageOf(id, { headers: { ce_time: new Date(Date.now() - 2 * 3_600_000).toISOString() } });
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: 'orders',
        consumer: 'late',
        handler: (delivered, trx) => trx('effects').insert({ message_id: delivered.id }),
      }),
    );
    await broker.publish([old('ancient'), messageOf('fresh')]);
    expect(consumption.counts).toMatchObject({ handled: 1, late: 1 });
    expect(await effects('ancient')).toBe(0);
    expect(await inbox.parked('late')).toMatchObject([{ reason: 'late', message: { id: 'ancient' } }]);
    expect(await consumption.force('ancient')).toBe(true);
    expect(await consumption.force('ancient')).toBe(false);
    expect(await effects('ancient')).toBe(1);
    // It is handled and remembered by now, so that it is a duplicate, however old.
    await broker.publish([old('ancient')]);
    expect(consumption.counts).toMatchObject({ duplicates: 1, late: 1 });
    expect(await inbox.parked('late')).toEqual([]);
  });

  it('forgets what is older than its retention, and then takes a late duplicate for late, not for new', async () => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const inbox = suite.inbox({ retention: '1h' });
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: 'orders',
        consumer: 'pruned',
        handler: (delivered, trx) => trx('effects').insert({ message_id: delivered.id }),
      }),
    );
    const one = messageOf('pruned-one');
    await broker.publish([one]);
    inbox.database.clockOffsetMs = 2.5 * 3_600_000;
    expect(await inbox.purge()).toBe(1);
    await broker.publish([one]);
    expect(consumption.counts).toMatchObject({ handled: 1, duplicates: 0, late: 1 });
    expect(await effects('pruned-one')).toBe(1);
  });

  it('sets a message aside that ended its process at each start', async () => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const inbox = suite.inbox();
    // The starts that three dead processes left behind.
    for (let life = 0; life < 3; life++) await inbox.table.started('crash', 'killer');
    const handled: string[] = [];
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: 'orders',
        consumer: 'crash',
        handler: (delivered) => handled.push(delivered.id),
      }),
    );
    await broker.publish([messageOf('killer'), messageOf('next')]);
    expect(handled).toEqual(['next']);
    expect(consumption.counts).toMatchObject({ crashLooped: 1, handled: 1 });
    expect(await inbox.parked('crash')).toMatchObject([{ reason: 'crash-loop', message: { id: 'killer' } }]);
    expect(await suite.db.knex('inbox_start').where({ consumer: 'crash' })).toEqual([]);
  });
});

// Only Postgres may answer COMMIT with ROLLBACK.
onEveryDatabase(
  'the inbox, where a commit may come to nothing',
  (suite) => {
    beforeAll(async () => {
      await suite.db.knex.schema.createTable('effects', (t) => {
        t.increments('seen');
        t.string('message_id');
      });
    });
    it('acks only what the server really committed', async () => {
      const broker = suite.use(memoryBroker({ logger: silentLogger }));
      const inbox = suite.inbox();
      let tries = 0;
      suite.use(
        await inbox.consume({
          subscriber: broker,
          topic: 'orders',
          consumer: 'swallow',
          retry: every(10),
          handler: async (delivered, trx) => {
            await trx('effects').insert({ message_id: delivered.id });
            // A swallowed error: Postgres answers the COMMIT with ROLLBACK, and knex resolves.
            if (tries++ === 0) await trx.raw('SELECT 1 / 0').catch(() => undefined);
          },
        }),
      );
      await broker.publish([messageOf('swallowed')]);
      expect(tries).toBe(2);
      expect(await suite.db.knex('effects').where({ message_id: 'swallowed' })).toHaveLength(1);
    });
  },
  ['postgres'],
);
