import { createHash, randomBytes } from 'node:crypto';
import { setCheckpointHook } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Webhook } from 'standardwebhooks';
import { afterEach, expect, it } from 'vitest';
import { sortedParams, type Trigger } from '../src/index.ts';
import { verifyWebhook } from '../src/verify/index.ts';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase('a trigger', (suite) => {
  afterEach(() => setCheckpointHook(undefined));
  const rows = async (where: object = {}): Promise<Record<string, unknown>[]> =>
    suite.db.knex('notifier_notification').where(where).orderBy('id');

  it('is heard of if and only if its transaction commits, at once, signed', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const worker = suite.use(notifier.worker());
    await worker.start();
    const one = event(receiver.url, { payload: { order: '1', note: 'ü – 😀' } });
    const { id } = await suite.db.knex.transaction((trx) => notifier.in(trx).trigger(one));
    await suite.db.knex
      .transaction(async (trx) => {
        await notifier.in(trx).trigger(event(receiver.url));
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    expect(await rows()).toHaveLength(1);
    expect(receiver.requests).toHaveLength(1);
    const [request] = receiver.requests;
    expect(request?.body).toBe('{"order":"1","note":"ü – 😀"}');
    expect(request?.headers).toMatchObject({ 'content-type': 'application/json', 'accept-encoding': 'identity' });
    new Webhook(`whsec_${Buffer.alloc(24, 1).toString('base64')}`).verify(request?.body ?? '', request?.headers as Record<string, string>);
    expect(await notifier.attempts(id)).toMatchObject([
      { number: 1, trigger: 'auto', outcome: 'delivered', httpStatus: 200, remoteAddress: '127.0.0.1', snippet: 'success' },
    ]);
    expect(await notifier.inspect().get(id)).toMatchObject({ state: 'DELIVERED', notify_times: 1, response_status: 200, due_at: null });
  });

  it('makes one row of a hundred that say the same at once, and says which differs', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const one = event(receiver.url);
    const results = await Promise.all(Array.from({ length: 100 }, () => notifier.now().trigger(one)));
    expect(results.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    expect(new Set(results.map(({ id }) => id)).size).toBe(1);
    expect(results.some(({ conflict }) => conflict)).toBe(false);
    expect(await rows()).toHaveLength(1);
    const other = await notifier.now().trigger({ ...one, payload: { n: 'another' } });
    expect(other).toEqual({ id: results[0]?.id, duplicate: true, conflict: true });
    expect((await rows())[0]?.params).toBe(JSON.stringify(one.payload));
    expect(await notifier.now().trigger({ ...one, sequence: 1 })).toMatchObject({ duplicate: false });
    expect(await notifier.now().trigger({ ...one, tenant: 'other' })).toMatchObject({ duplicate: false });
  });

  it('writes many whose bodies are more than one statement may have', { timeout: 60_000 }, async () => {
    const notifier = suite.notifier();
    const events = Array.from({ length: 90 }, (_, n) =>
      event('https://8.8.8.8/', { subjectId: `big-${n}`, payload: { text: 'x'.repeat(200_000) } }),
    );
    const results = await notifier.now().triggerMany(events);
    expect(new Set(results.map(({ id }) => id)).size).toBe(90);
    expect(results.some(({ duplicate }) => duplicate)).toBe(false);
    expect((await notifier.now().triggerMany(events)).every(({ duplicate, conflict }) => duplicate && !conflict)).toBe(true);
  });

  it('refuses a call of its own transaction inside an open one of SQLite', async () => {
    if (suite.db.name !== 'sqlite') return;
    const notifier = suite.notifier();
    const one = event('https://8.8.8.8/', { subjectId: 'inside' });
    for (const call of [() => notifier.now().trigger(one), () => notifier.now().triggerMany([one])])
      await expect(suite.db.knex.transaction(async () => void (await call()))).rejects.toThrow(/inside an open transaction.*in\(trx\)/);
  });

  it('writes many at once: each event once, also among themselves, against rows that are there, and after retention', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ keep: '1h', remember: '1d' });
    const worker = suite.use(notifier.worker());
    await worker.start();
    const old = event(receiver.url, { subjectId: 'old' });
    const { id: oldId } = await notifier.now().trigger(old);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    await suite.db.knex('notifier_notification').decrement('ended_at', 7_200_000);
    expect(await notifier.purge()).toBe(1);
    const there = event(receiver.url, { subjectId: 'there' });
    const first = await notifier.now().trigger(there);
    const fresh = Array.from({ length: 1_200 }, (_, i) => event(receiver.url, { subjectId: `fresh-${i}`, payload: { i } }));
    const [one] = fresh as [Trigger, ...Trigger[]];
    const all = [...fresh, one, { ...there, payload: 'another' }, old];
    const results = await suite.db.knex.transaction((trx) => notifier.in(trx).triggerMany(all));
    expect(results.slice(0, 1_200).every(({ duplicate }) => !duplicate)).toBe(true);
    expect(new Set(results.slice(0, 1_200).map(({ id }) => id)).size).toBe(1_200);
    expect(results.slice(1_200)).toEqual([
      { id: results[0]?.id, duplicate: true, conflict: false },
      { id: first.id, duplicate: true, conflict: true },
      { id: oldId, duplicate: true, conflict: false },
    ]);
    expect(await rows()).toHaveLength(1_201);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1_201, { withinMs: 40_000 });
    const refused = notifier.now().triggerMany([event(receiver.url, { subjectId: 'x' }), event('http://10.0.0.1/')]);
    await expect(refused).rejects.toMatchObject({ code: 'egress-denied' });
    expect(await rows({ subject_id: 'x' })).toEqual([]);
  });

  it('makes one row of a hundred in transactions of their own, half of which roll back', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const one = event(receiver.url);
    const results = await Promise.allSettled(
      Array.from({ length: suite.db.name === 'sqlite' ? 40 : 100 }, (_, i) =>
        suite.db.knex.transaction(async (trx) => {
          const done = await notifier.in(trx).trigger(one);
          if (i % 2 === 0) throw new Error('rolled back');
          return done;
        }),
      ),
    );
    const done = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(done.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    expect(await rows()).toHaveLength(1);
  });

  it('knows an event again after retention has deleted it, and a changed body', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ keep: '1h', remember: '1d' });
    const worker = suite.use(notifier.worker());
    await worker.start();
    const one = event(receiver.url);
    const { id } = await notifier.now().trigger(one);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    expect(await notifier.purge()).toBe(0);
    notifier.database.clockOffsetMs = 3_700_000;
    expect(await notifier.purge()).toBe(1);
    expect(await rows()).toHaveLength(0);
    expect(await notifier.attempts(id)).toHaveLength(0);
    expect(await notifier.now().trigger(one)).toEqual({ id, duplicate: true, conflict: false });
    expect(await notifier.now().trigger({ ...one, payload: { n: 'x' } })).toEqual({ id, duplicate: true, conflict: true });
    expect(await rows()).toHaveLength(0);
    notifier.database.clockOffsetMs = 3_700_000 + 90_000_000;
    expect(await notifier.now().trigger(one)).toMatchObject({ duplicate: false });
  });

  it('goes once to each URL, also to one that was triggered later, by a statement for many, or after retention', async () => {
    const [one, other] = [await suite.receiver(), await suite.receiver()];
    const notifier = suite.notifier({ keep: '1h', remember: '1d' });
    await suite.use(notifier.worker()).start();
    const of = (url: string) => event(url, { subjectId: 'machine', payload: { n: 1 } });
    const urls = [one.url, other.url, `${one.url}/second`, `${one.url}?a=1`];
    const first = await notifier.now().trigger(of(one.url));
    const all = await notifier.now().triggerMany(urls.map(of));
    expect(all.map(({ duplicate }) => duplicate)).toEqual([true, false, false, false]);
    expect([all[0]?.id, new Set(all.map(({ id }) => id)).size]).toEqual([first.id, 4]);
    const again = async () => {
      const results = [...(await notifier.now().triggerMany(urls.map(of)))];
      for (const url of urls) results.push(await notifier.now().trigger(of(url)));
      return results.map(({ id, duplicate, conflict }) => [id, duplicate, conflict]);
    };
    const known = [...all, ...all].map(({ id }) => [id, true, false]);
    expect(await again()).toEqual(known);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 4);
    expect([one.requests.map(({ path }) => path).sort(), other.requests.length]).toEqual([['/hook', '/hook/second', '/hook?a=1'], 1]);
    await suite.db.knex('notifier_notification').decrement('ended_at', 7_200_000);
    expect(await notifier.purge()).toBe(4);
    expect(await again()).toEqual(known);
    expect(await rows()).toEqual([]);
  });

  it('is known again where a version before targets wrote its row, or its record after retention', async () => {
    const notifier = suite.notifier({ keep: '1h' });
    const of = (url: string) => event(url, { subjectId: 'machine', payload: { n: 1 } });
    const [mine, its] = ['https://8.8.8.8/mine', 'https://8.8.8.8/its'];
    const { id } = await notifier.now().trigger(of(mine));
    await suite.db.knex('notifier_notification').update({ target: '' });
    expect(await notifier.now().trigger(of(mine))).toEqual({ id, duplicate: true, conflict: false });
    expect(await notifier.now().triggerMany([of(mine), of(its)])).toMatchObject([{ id, duplicate: true }, { duplicate: false }]);
    expect(await notifier.now().trigger({ ...of(mine), payload: { n: 2 } })).toEqual({ id, duplicate: true, conflict: true });
    expect(await rows()).toHaveLength(2);
    await suite.db.knex('notifier_notification').update({ state: 'DELIVERED', ended_at: 1, due_at: null });
    expect(await notifier.purge()).toBe(2);
    expect(await notifier.now().trigger(of(mine))).toEqual({ id, duplicate: true, conflict: false });
    // As they recorded an event: without its URL.
    const hash = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, 22);
    await suite.db.knex('holdfast_once').delete();
    await suite.db.knex('holdfast_once').insert({
      scope: 'notifier',
      once_key: hash(JSON.stringify(['', 'machine', 'POWER_ON', 0])),
      ref: `7 ${hash('{"n":1}')}`,
      expires_at: 9_999_999_999_999,
    });
    expect(await notifier.now().trigger(of(its))).toEqual({ id: '7', duplicate: true, conflict: false });
    expect(await notifier.now().triggerMany([of(mine)])).toEqual([{ id: '7', duplicate: true, conflict: false }]);
    expect(await rows()).toEqual([]);
  });

  it('does not wait for a promise of keys while the transaction of its caller is open, unless the body needs the key', async () => {
    const notifier = suite.notifier({ callTimeout: 30, keys: () => new Promise(() => undefined) });
    const one = event('https://8.8.8.8/');
    await suite.db.knex.transaction(async (trx) => {
      expect(await notifier.in(trx).trigger(one)).toMatchObject({ duplicate: false });
      expect(await notifier.in(trx).triggerMany([event('https://8.8.8.8/')])).toMatchObject([{ duplicate: false }]);
    });
    expect(await rows()).toHaveLength(2);
    // The connection of the transaction is the only one, and the keys need one, too.
    const { knex } = suite.db;
    const asking = suite.notifier({ keys: async () => knex.raw('SELECT 1').then(() => `whsec_${Buffer.alloc(24, 1).toString('base64')}`) });
    await knex.transaction((trx) => asking.in(trx).trigger(event('https://8.8.8.8/')));
    const sealing = suite.notifier({
      callTimeout: 30,
      keys: () => new Promise(() => undefined),
      sign: [sortedParams({ flavor: 'wechat-md5' })],
    });
    await expect(knex.transaction((trx) => sealing.in(trx).trigger(event('https://8.8.8.8/')))).rejects.toMatchObject({
      code: 'call-timeout',
    });
  });

  it('ends what is pending of its subject with lower sequences when it supersedes, also when it comes late', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const of = (sequence: number) =>
      event(receiver.url, { subjectId: 'machine', sequence, supersede: true, payload: { n: String(sequence) } });
    for (const sequence of [1, 2, 4, 3]) await notifier.now().trigger(of(sequence));
    expect((await rows()).map(({ sequence, state, reason }) => [sequence, state, reason])).toEqual([
      [1, 'CANCELLED', 'superseded'],
      [2, 'CANCELLED', 'superseded'],
      [4, 'PENDING', null],
      [3, 'CANCELLED', 'superseded'],
    ]);
    // Another target hears of its own states alone.
    expect(await notifier.now().trigger({ ...of(1), url: `${receiver.url}/other` })).toMatchObject({ duplicate: false });
    expect(await rows({ state: 'PENDING' })).toHaveLength(2);
    await suite.db.knex('notifier_notification').where('url', 'like', '%other').delete();
    // Two whose triggers did not see each other: found out before the first of them leaves.
    await suite.db.knex('notifier_notification').where({ sequence: 3 }).update({ state: 'PENDING', reason: null, due_at: 1 });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(async () => (await rows({ state: 'PENDING' })).length === 0);
    expect(receiver.requests.map(({ body }) => body)).toEqual(['{"n":"4"}']);
  });

  it('is not sent where nobody wants it any more, and costs no attempt while that is not known', async () => {
    const receiver = await suite.receiver();
    let answer: (subject: string) => boolean = () => {
      throw new Error('the orders can not be asked');
    };
    const notifier = suite.notifier({ stillWanted: async (subject) => answer(subject) });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await notifier.now().trigger(event(receiver.url, { subjectId: 'gone' }));
    await notifier.now().trigger(event(receiver.url, { subjectId: 'there' }));
    await until(async () => (await rows({ reason: 'stillWanted failed' })).length === 2);
    expect(await suite.db.knex('notifier_attempt')).toHaveLength(0);
    answer = (subject) => subject === 'there';
    notifier.database.clockOffsetMs = 20_000;
    await until(async () => (await rows({ state: 'PENDING' })).length === 0);
    expect((await rows()).map(({ state, notify_times }) => [state, notify_times])).toEqual([
      ['CANCELLED', 0],
      ['DELIVERED', 1],
    ]);
  });

  it('keeps a key that came with it sealed, and signs with it', async () => {
    const receiver = await suite.receiver();
    const [old, current] = [randomBytes(32), randomBytes(32)];
    const signKey = `whsec_${Buffer.alloc(24, 9).toString('base64')}`;
    const before = suite.notifier({ sealingKeys: { old } });
    await before.now().trigger(event(receiver.url, { keyRef: undefined as never, signKey }));
    const [row] = await rows();
    expect(JSON.stringify(row)).not.toContain(Buffer.alloc(24, 9).toString('base64').slice(0, 16));
    const notifier = suite.notifier({ sealingKeys: { current, old } });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(() => receiver.requests.length === 1);
    const [request] = receiver.requests;
    new Webhook(signKey).verify(request?.body ?? '', request?.headers as Record<string, string>);
    expect(JSON.stringify(await notifier.inspect().get(String(row?.id)))).not.toContain('sealed');
    // Moved to another row it does not open.
    const { id } = await notifier.now().trigger(event(receiver.url, { keyRef: undefined as never, signKey }));
    await until(async () => (await rows({ id, state: 'DELIVERED' })).length === 1);
    await suite.db
      .knex('notifier_notification')
      .where({ id })
      .update({ sealed_key: row?.sealed_key as string });
    await notifier.resend(id, { actor: 'test', reason: 'moved' });
    await until(async () => (await notifier.attempts(id)).at(-1)?.outcome === 'no-key');
  });

  it('takes a header that is allowed, text as it is, and the key of its endpoint', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ allowHeaders: ['X-Tenant'] });
    const endpoint = await notifier.endpoints.register({ url: receiver.url, tenant: 't', keyRef: 'other' });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await notifier.now().trigger({
      tenant: 't',
      subjectId: 's',
      status: 'ON',
      url: `${receiver.url}?token=secret`,
      payload: '<on/>',
      contentType: 'application/xml',
      headers: { 'x-tenant': 'blue' },
    });
    await until(() => receiver.requests.length === 1);
    const [request] = receiver.requests;
    expect(request).toMatchObject({
      body: '<on/>',
      path: '/hook?token=secret',
      headers: { 'x-tenant': 'blue', 'content-type': 'application/xml' },
    });
    const signed = new Request(receiver.url, { method: 'POST', body: '<on/>', headers: request?.headers as Record<string, string> });
    await verifyWebhook(signed, { keys: [`whsec_${Buffer.alloc(32, 2).toString('base64')}`] });
    expect(await notifier.endpoints.list({ tenant: 't' })).toMatchObject([
      { id: endpoint, keyRef: 'other', origin: new URL(receiver.url).origin },
    ]);
    expect(JSON.stringify(await notifier.inspect().list())).not.toContain('secret');
  });
});
