import { type Message, reject } from '@holdfast/broker';
import { memoryBroker } from '@holdfast/broker/memory';
import { every, silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { onEveryDatabase } from './suite.ts';

const nul = String.fromCharCode(0);
const long = 'x'.repeat(299);

/** Ids that differ, and that a column of 191 characters, a collation or an encoding would make one, or refuse. */
const ids = [
  `${long}a`,
  `${long}b`,
  'K',
  'K ',
  'K  ',
  ' K',
  'k',
  'é',
  'e\u0301',
  `n${nul}a`,
  `n${nul}b`,
  'n',
  'half \ud800',
  'half \ud801',
  'half \ufffd',
  '😀'.repeat(191),
  '😀'.repeat(192),
  `sha256:${'0'.repeat(64)}`,
  ' ',
  "quote ' back \\ slash",
];

function message(id: string, extra: Partial<Message> = {}): Message {
  return {
    id,
    topic: 'orders',
    headers: { ce_time: new Date().toISOString() },
    body: Buffer.from('{}'),
    contentType: 'text/plain',
    ...extra,
  };
}

onEveryDatabase('foreign messages', (suite) => {
  it.each(['handler', 'handleMany'] as const)('are each handled once, whatever their ids, with %s', { timeout: 30_000 }, async (how) => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const handled: string[] = [];
    const consumption = suite.use(
      await suite.inbox().consume({
        subscriber: broker,
        topic: 'orders',
        consumer: `foreign-${how}`,
        retry: every('10ms'),
        ...(how === 'handler'
          ? { handler: (one: Message) => void handled.push(one.id) }
          : { handleMany: (many: readonly Message[]) => void handled.push(...many.map(({ id }) => id)) }),
      }),
    );
    await broker.publish([...ids, ...ids].map((id) => message(id, { key: `k${nul}${long}` })));
    await until(() => consumption.counts.handled + consumption.counts.duplicates === 2 * ids.length);
    expect(handled.toSorted()).toEqual(ids.toSorted());
    expect(consumption.counts).toMatchObject({ failed: 0, duplicates: ids.length });
  });

  it('are taken by once with any id', async () => {
    const inbox = suite.inbox();
    const once = (id: string) => suite.db.knex.transaction((trx) => inbox.once(trx, { consumer: 'once', messageId: id }, () => id));
    for (const id of ids) expect(await once(id)).toEqual({ duplicate: false, value: id });
    for (const id of ids) expect(await once(id)).toEqual({ duplicate: true });
    await expect(once('')).rejects.toThrow('messageId is ""');
  });

  it('are set aside whole, with fields that no column holds, and handled when forced', { timeout: 30_000 }, async () => {
    const broker = suite.use(memoryBroker({ logger: silentLogger }));
    const inbox = suite.inbox({ retention: '1h' });
    const forced: Message[] = [];
    const consumption = suite.use(
      await inbox.consume({
        subscriber: broker,
        topic: ['orders', 't'.repeat(249)],
        consumer: 'parked',
        handler: (one) => {
          forced.push(one);
          return one.id === 'K' ? reject('no') : undefined;
        },
      }),
    );
    const old = { ce_time: new Date(Date.now() - 2 * 3_600_000).toISOString(), 'x-nul': `a${nul}\ud800`, 'holdfast-original': 'theirs' };
    const odd = ids.map((id, i) =>
      message(id, {
        topic: i % 2 ? 'orders' : 't'.repeat(249),
        key: i % 3 ? `key${nul}${long}` : `k${i} `,
        contentType: i % 5 ? `text/${'y'.repeat(200)}` : 'text/plain',
        headers: i % 2 ? old : { ce_time: old.ce_time },
      }),
    );
    await broker.publish(odd);
    await until(() => consumption.counts.late === ids.length);
    const parked = await inbox.parked('parked');
    expect(parked.map((one) => one.message.id).toSorted()).toEqual(ids.toSorted());
    for (const id of ids) {
      if (id === 'K') await expect(consumption.force(id)).rejects.toThrow('rejected');
      else expect(await consumption.force(id)).toBe(true);
    }
    const plain = (messages: readonly Message[]) =>
      messages.map((one) => ({ ...one, body: Buffer.from(one.body).toString() })).sort((x, y) => (x.id < y.id ? -1 : 1));
    expect(plain(forced)).toEqual(plain(odd));
    expect((await inbox.parked('parked')).map((one) => one.message.id)).toEqual(['K']);
  });
});

// Only Postgres may answer COMMIT with ROLLBACK.
onEveryDatabase(
  'force, where a commit may come to nothing',
  (suite) => {
    it('throws, and the message stays set aside', async () => {
      const broker = suite.use(memoryBroker({ logger: silentLogger }));
      const inbox = suite.inbox({ retention: '1h' });
      let swallow = true;
      const consumption = suite.use(
        await inbox.consume({
          subscriber: broker,
          topic: 'orders',
          consumer: 'forced',
          handler: async (_, trx) => {
            if (swallow) await trx.raw('SELECT 1 / 0').catch(() => undefined);
          },
        }),
      );
      await broker.publish([message('late', { headers: { ce_time: '2020-01-01T00:00:00Z' } })]);
      await expect(consumption.force('late')).rejects.toMatchObject({
        code: 'database-transient',
        message: expect.stringContaining('stays set aside'),
      });
      expect(await inbox.parked('forced')).toHaveLength(1);
      swallow = false;
      expect(await consumption.force('late')).toBe(true);
      expect(await consumption.force('late')).toBe(false);
      expect(await inbox.parked('forced')).toEqual([]);
    });
  },
  ['postgres'],
);
