import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bytesTopic, topic } from '../src/index.ts';
import { Recorder } from './recorder.ts';
import { onEveryDatabase, schemaOf } from './suite.ts';

onEveryDatabase('putMany', (suite) => {
  const big = {
    text: topic(schemaOf<{ n: number; text: string }>(), { key: ({ n }) => `k${n % 5}` }),
    raw: bytesTopic({ key: (bytes) => `k${(bytes[0] ?? 0) % 5}` }),
  };
  const unsent = async () => Number((await suite.db.knex('outbox_message').count({ n: '*' }))[0]?.n);

  // 24 MB of text, and as bytes 48 MB of hexadecimal digits: MariaDB accepts 16 MiB in a statement, MySQL 64.
  it('takes more bytes than one statement may have, in order, in both kinds of transaction', { timeout: 60_000 }, async () => {
    const outbox = suite.outbox<typeof big>({ topics: big });
    // Backslashes are the worst case of a text.
    const texts = Array.from({ length: 200 }, (_, n) => ({ payload: { n, text: '\\'.repeat(60_000) } }));
    const written = await outbox.now().putMany('text', texts);
    expect(new Set(written.map(({ id }) => id)).size).toBe(200);
    await suite.db.knex.transaction(async (trx) => {
      await outbox.in(trx).putMany(
        'raw',
        Array.from({ length: 200 }, (_, n) => ({ payload: new Uint8Array(200_000).fill(n) })),
      );
      await outbox.in(trx).putMany(
        'raw',
        Array.from({ length: 100 }, (_, n) => ({ payload: new Uint8Array(200_000).fill(n), options: { delay: '1h' } })),
      );
    });
    expect(await unsent()).toBe(400);
    const rows = await suite.db.knex('outbox_message').where({ topic: 'raw' }).orderBy('id').select('body');
    expect(rows.map(({ body }) => body[199_999])).toEqual(Array.from({ length: 200 }, (_, n) => n));
    expect(await suite.db.knex('outbox_delayed').count({ n: '*' })).toMatchObject([{ n: expect.anything() }]);
  });

  it('refuses a single message that no statement of the server can hold, with its size, and sends nothing', async () => {
    const { maxStatementBytes } = await suite.outbox().database.describe();
    if (maxStatementBytes === undefined) return;
    const outbox = suite.outbox<typeof big>({ topics: big, maxBodyBytes: 2 * maxStatementBytes });
    // As a literal each byte is two digits.
    const body = new Uint8Array(maxStatementBytes / 2);
    await suite.db.knex.transaction(async (trx) => {
      await expect(outbox.in(trx).put('raw', body)).rejects.toThrow(
        new RegExp(`the server accepts ${maxStatementBytes} \\(max_allowed_packet`),
      );
      await outbox.in(trx).put('raw', body.subarray(1_000));
    });
    expect(await unsent()).toBe(1);
  });

  it('writes a message with an id once, and says of each whether it was put before', async () => {
    const outbox = suite.outbox();
    const id = (n: number) => ({ id: `many-${suite.db.name}-${n}` });
    await outbox.now().put('free', { n: 2 }, id(2));
    const result = await outbox
      .now()
      .putMany('free', [
        { payload: { n: 1 }, options: id(1) },
        { payload: { n: 2 }, options: id(2) },
        { payload: { n: 0 } },
        { payload: { n: 3 }, options: { ...id(3), delay: '1h' } },
        { payload: { n: 1 }, options: id(1) },
      ]);
    expect(result.map(({ duplicate }) => duplicate)).toEqual([false, true, false, false, true]);
    expect(result.map((put) => put.id)).toEqual([id(1).id, id(2).id, expect.stringMatching(/^[0-9a-f-]{36}$/), id(3).id, id(1).id]);
    expect(await unsent()).toBe(3);
    // Rolled back: the ids are free.
    await expect(
      suite.db.knex.transaction(async (trx) => {
        const again = await outbox.in(trx).putMany('free', [{ payload: { n: 4 }, options: id(4) }]);
        expect(again).toEqual([{ ...id(4), duplicate: false }]);
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    expect(await outbox.now().putMany('free', [{ payload: { n: 4 }, options: id(4) }])).toEqual([{ ...id(4), duplicate: false }]);
    expect(await outbox.now().put('free', { n: 4 }, id(4))).toEqual({ ...id(4), duplicate: true });
    // The window of the ids has ended.
    outbox.database.clockOffsetMs = 8 * 86_400_000;
    expect(await outbox.now().putMany('free', [{ payload: { n: 4 }, options: id(4) }])).toEqual([{ ...id(4), duplicate: false }]);
    expect(await outbox.now().putMany('free', [])).toEqual([]);
  });

  it('gives each id of two thousand to one of several callers at the same time', async () => {
    const outbox = suite.outbox();
    const ids = Array.from({ length: 2_000 }, (_, n) => `race-${suite.db.name}-${n}`);
    const shuffled = (by: number) => ids.map((_, i) => ids[(i * 7 + by * 411) % ids.length] as string);
    const results = await Promise.all(
      [1, 2, 3, 4].map((by) =>
        outbox.now().putMany(
          'free',
          shuffled(by).map((id) => ({ payload: { n: by }, options: { id } })),
        ),
      ),
    );
    const first = results.flat().filter(({ duplicate }) => !duplicate);
    expect(first).toHaveLength(2_000);
    expect(new Set(first.map(({ id }) => id)).size).toBe(2_000);
    expect(await unsent()).toBe(2_000);
  });
});

onEveryDatabase('cancel', (suite) => {
  it('frees the id of a message that was never sent, and of no other', { timeout: 20_000 }, async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const id = `cancelled-${suite.db.name}`;
    await outbox.now().put('free', { n: 1 }, { id, delay: '1h' });
    expect(await outbox.now().put('free', { n: 1 }, { id })).toEqual({ id, duplicate: true });
    expect(await outbox.now().cancel(id)).toBe(true);
    // A cancel that rolls back frees nothing.
    expect(await outbox.now().put('free', { n: 2 }, { id, delay: '1h' })).toEqual({ id, duplicate: false });
    await expect(
      suite.db.knex.transaction(async (trx) => {
        expect(await outbox.in(trx).cancel(id)).toBe(true);
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    expect(await outbox.now().put('free', { n: 2 }, { id })).toEqual({ id, duplicate: true });
    // In one transaction.
    await suite.db.knex.transaction(async (trx) => {
      expect(await outbox.in(trx).cancel(id)).toBe(true);
      expect(await outbox.in(trx).put('free', { n: 3 }, { id })).toEqual({ id, duplicate: false });
    });
    await suite.use(outbox.relay()).start();
    await until(() => publisher.acked.length === 1, { withinMs: 10_000 });
    expect(publisher.acked[0]?.id).toBe(id);
    // Sent: nothing is cancelled, and the id stays taken.
    expect(await outbox.now().cancel(id)).toBe(false);
    expect(await outbox.now().put('free', { n: 4 }, { id })).toEqual({ id, duplicate: true });
  });
});

onEveryDatabase(
  'cancel in an open transaction at REPEATABLE READ',
  (suite) => {
    it.each(['delayed, with an id', 'delayed, without one', 'sent long ago'])('keeps no put of others waiting (%s)', async (which) => {
      const outbox = suite.outbox();
      const given = which.includes('with an id') ? { id: 'zz-last' } : {};
      const { id } = await outbox.now().put('free', { n: 1 }, { delay: '1h', ...given });
      if (which.startsWith('sent')) expect(await outbox.now().cancel(id)).toBe(true);
      const trx = await suite.db.knex.transaction({ isolationLevel: 'repeatable read' });
      try {
        expect(await outbox.in(trx).cancel(id)).toBe(!which.startsWith('sent'));
        let put = 0;
        const puts = [{}, { id: 'aa' }, { id: 'zz-later' }].map((options) =>
          outbox
            .now()
            .put('free', { n: 2 }, { delay: '1h', ...options })
            .then(() => (put += 1)),
        );
        await until(() => put === puts.length, { withinMs: 3_000 });
      } finally {
        await trx.rollback();
      }
    });
  },
  ['mysql', 'mariadb'],
);
