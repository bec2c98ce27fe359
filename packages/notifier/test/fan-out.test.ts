import { every } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import type { FannedOut, FanOut } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

const by = { actor: 'alice', reason: 'their wish' };
const to = (endpoints: FanOut['endpoints'], more: Partial<FanOut> = {}): FanOut => ({
  subjectId: 'machine',
  status: 'POWER_ON',
  payload: { n: 1 },
  endpoints,
  ...more,
});

onEveryDatabase('an event for endpoints', (suite) => {
  const rows = async (where: object = {}): Promise<Record<string, unknown>[]> =>
    suite.db.knex('notifier_notification').where(where).orderBy('id');

  it('goes once to each that subscribed to its type, and to no other', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const subscribe = (path: string, events: readonly string[], tenant = 'acme') =>
      notifier.endpoints.subscribe({ tenant, url: `${receiver.url}/${path}?token=secret`, events, keyRef: 'k' });
    const on = await subscribe('on', ['POWER_ON', 'POWER_OFF']);
    const all = await subscribe('all', ['*', 'POWER_ON']);
    await subscribe('off', ['POWER_OFF']);
    await subscribe('none', []);
    await subscribe('elsewhere', ['POWER_ON'], 'other');
    expect(await subscribe('on', ['POWER_ON', 'POWER_OFF'])).toBe(on);
    await suite.use(notifier.worker()).start();
    const event = to('subscribed', { tenant: 'acme' });
    const sent = await suite.db.knex.transaction((trx) => notifier.in(trx).trigger(event));
    expect(sent).toEqual([
      { id: expect.any(String), duplicate: false, conflict: false, endpoint: on },
      { id: expect.any(String), duplicate: false, conflict: false, endpoint: all },
    ]);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 2);
    expect(receiver.requests.map(({ path }) => path).sort()).toEqual(['/hook/all?token=secret', '/hook/on?token=secret']);
    const again = await notifier.now().trigger(event);
    expect(again).toEqual(sent.map((one) => ({ ...one, duplicate: true })));
    // One that subscribes later gets the same event, and the others do not get it again.
    const late = await subscribe('late', ['POWER_ON']);
    expect((await notifier.now().trigger(event)).filter(({ duplicate }) => !duplicate).map(({ endpoint }) => endpoint)).toEqual([late]);
    expect(await notifier.now().trigger(to('subscribed', { tenant: 'nobody' }))).toEqual([]);
    expect(await notifier.now().trigger(to([], { tenant: 'acme' }))).toEqual([]);
    expect(await notifier.endpoints.get(all)).toMatchObject({ url: `${receiver.url}/all`, events: ['*', 'POWER_ON'], tenant: 'acme' });
    expect(JSON.stringify(await notifier.endpoints.list())).not.toContain('secret');
  });

  it('goes to those that are named, and says which is not there', async () => {
    const notifier = suite.notifier();
    const one = await notifier.endpoints.subscribe({ url: 'https://8.8.8.8/one', keyRef: 'k' });
    const other = await notifier.endpoints.subscribe({ url: 'https://8.8.8.8/other', keyRef: 'k', tenant: 'acme' });
    const plain = await notifier.endpoints.register({ url: 'https://8.8.8.8/' });
    expect(await notifier.now().trigger(to([one]))).toMatchObject([{ endpoint: one }]);
    for (const id of [other, plain, '424242'])
      await expect(notifier.now().trigger(to([one, id], { subjectId: 'b' }))).rejects.toThrow(
        new RegExp(`"" has no endpoint ${id} with a URL of its own`),
      );
    for (const endpoints of ['everybody', 7, ['x']])
      await expect(notifier.now().trigger(to(endpoints as never))).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(notifier.now().trigger({ ...to([one]), url: 'https://8.8.8.8/' } as never)).rejects.toThrow(/not both/);
    expect(await notifier.now().trigger(to([`00${one}`]))).toMatchObject([{ endpoint: one, duplicate: true }]);
    expect(await rows({ subject_id: 'b' })).toEqual([]);
  });

  it('is taken among many events, and counts as it would alone', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const subscribe = (path: string, events: readonly string[]) =>
      notifier.endpoints.subscribe({ url: `${receiver.url}/${path}`, events, keyRef: 'k' });
    const [on, all, off] = [await subscribe('on', ['POWER_ON']), await subscribe('all', ['*']), await subscribe('off', ['POWER_OFF'])];
    const fresh = { duplicate: false, conflict: false };
    const first = await notifier.now().trigger(to('subscribed', { subjectId: 'first' }));
    expect(first).toMatchObject([{ endpoint: on }, { endpoint: all }]);
    await suite.use(notifier.worker()).start();
    const url = `${receiver.url}/by-url`;
    const results = await suite.db.knex.transaction((trx) =>
      notifier
        .in(trx)
        .triggerMany([
          to('subscribed', { subjectId: 'many' }),
          event(url, { subjectId: 'many' }),
          to('subscribed', { subjectId: 'first', payload: 'another' }),
          to('subscribed', { subjectId: 'many', status: 'POWER_OFF' }),
          to([off, on], { subjectId: 'many' }),
          to([], { subjectId: 'nobody' }),
          to('subscribed', { subjectId: 'nobody', tenant: 'acme' }),
          event(url, { subjectId: 'many' }),
        ]),
    );
    const [ofMany, byUrl, again, ofOff, named, ...rest] = results;
    expect(ofMany).toEqual([
      { id: expect.any(String), endpoint: on, ...fresh },
      { id: expect.any(String), endpoint: all, ...fresh },
    ]);
    expect(byUrl).toEqual({ id: expect.any(String), ...fresh });
    expect(again).toEqual(first.map(({ id, endpoint }) => ({ id, endpoint, duplicate: true, conflict: true })));
    expect(ofOff).toMatchObject([
      { endpoint: all, ...fresh },
      { endpoint: off, ...fresh },
    ]);
    // In the order of their ids; one was named by its subscription as well.
    expect(named).toEqual([
      { ...(ofMany as readonly FannedOut[])[0], duplicate: true },
      { id: expect.any(String), endpoint: off, ...fresh },
    ]);
    expect(rest).toEqual([[], [], { ...byUrl, duplicate: true, conflict: true }]);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 8);
    expect(await rows()).toHaveLength(8);
    expect(receiver.requests.filter(({ path }) => path === '/hook/by-url')).toHaveLength(1);
    const [alone] = await notifier.now().triggerMany([to('subscribed', { subjectId: 'many' })]);
    expect(alone?.map(({ endpoint, duplicate }) => [endpoint, duplicate])).toEqual([
      [on, true],
      [all, true],
    ]);
  });

  it('is refused among many with the others, and nothing is written', async () => {
    const notifier = suite.notifier();
    const one = await notifier.endpoints.subscribe({ url: 'https://8.8.8.8/one', events: ['*'], keyRef: 'k' });
    for (const [bad, message] of [
      [to(['424242']), /no endpoint 424242/],
      [to('everybody' as never), /neither 'subscribed' nor a list/],
      [to('subscribed', { payload: { n: 1n } }), /bigint as text/],
      [to('subscribed', { status: 7 as never }), /status is 7/],
      [{ ...to([one]), url: 'https://8.8.8.8/' }, /not both/],
      [undefined, /triggerMany takes events/],
    ] as const)
      await expect(notifier.now().triggerMany([to('subscribed'), bad as FanOut]), String(message)).rejects.toThrow(message);
    for (const odd of [undefined, 7, {}, new Array(1)])
      await expect(notifier.now().triggerMany(odd as never)).rejects.toThrow(/triggerMany takes events/);
    expect(await rows()).toEqual([]);
  });

  it('cancels what it supersedes, also among many', async () => {
    const notifier = suite.notifier();
    await notifier.endpoints.subscribe({ url: 'https://8.8.8.8/one', events: ['*'], keyRef: 'k' });
    await notifier.endpoints.subscribe({ url: 'https://8.8.8.8/two', events: ['*'], keyRef: 'k' });
    await notifier.now().triggerMany([1, 2].map((sequence) => to('subscribed', { sequence, supersede: true })));
    expect((await rows()).map(({ sequence, state }) => `${sequence} ${state}`)).toEqual([
      '1 CANCELLED',
      '1 CANCELLED',
      '2 PENDING',
      '2 PENDING',
    ]);
  });

  it('carries the headers of its endpoint, and follows its URL and its schedule as they are now', async () => {
    const [old, current] = [await suite.receiver(500), await suite.receiver()];
    const notifier = suite.notifier({ allowHeaders: ['x-crm'], schedule: every('1h') });
    const id = await notifier.endpoints.subscribe({
      url: old.url,
      events: ['POWER_ON'],
      keyRef: 'k',
      headers: { 'X-Crm': 'blue' },
      schedule: [20, '1h'],
    });
    await suite.use(notifier.worker()).start();
    const [sent] = await notifier.now().trigger(to('subscribed'));
    await until(() => old.requests.length === 2);
    expect(old.requests.map(({ headers }) => headers['x-crm'])).toEqual(['blue', 'blue']);
    await until(async () => (await rows({ notify_times: 2 })).length === 1);
    await until(async () => (await notifier.endpoints.get(id))?.status === 'WAITING');
    expect(await notifier.endpoints.get(id)).toMatchObject({ headers: ['x-crm'], delaysMs: [20, 3_600_000] });
    expect(await notifier.endpoints.change(id, { url: current.url, headers: null, schedule: null }, by)).toBe(true);
    await notifier.resend(sent?.id ?? '', by);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    expect(current.requests.map(({ headers }) => headers['x-crm'])).toEqual([undefined]);
    expect(await notifier.endpoints.get(id)).toMatchObject({
      headers: [],
      delaysMs: null,
      events: ['POWER_ON'],
      origin: new URL(current.url).origin,
    });
    // The same event is the same, though the URL has changed.
    expect(await notifier.now().trigger(to('subscribed'))).toMatchObject([{ id: sent?.id, duplicate: true }]);
    await notifier.endpoints.change(id, { events: [] }, by);
    expect(await notifier.now().trigger(to('subscribed', { sequence: 1 }))).toEqual([]);
    expect(await notifier.endpoints.change('424242', { events: [] }, by)).toBe(false);
    await expect(notifier.endpoints.change(id, { headers: { 'x-other': '1' } }, by)).rejects.toThrow(/allowHeaders/);
    await expect(notifier.endpoints.change(id, { url: 'http://10.0.0.1/' }, by)).rejects.toMatchObject({ code: 'egress-denied' });
    await expect(notifier.endpoints.change(id, { schedule: [] }, by)).rejects.toThrow(/1 to 100 delays/);
    await expect(notifier.endpoints.change(id, { events: [''] }, by)).rejects.toThrow(/events/);
    const second = await notifier.endpoints.subscribe({ url: old.url, keyRef: 'k' });
    await expect(notifier.endpoints.change(second, { url: current.url }, by)).rejects.toThrow(
      /Another endpoint of the tenant has this URL/,
    );
    await expect(notifier.endpoints.subscribe({ url: old.url, keyRef: 'nobody' })).rejects.toMatchObject({ code: 'key-unknown' });
  });

  it('does not fan out to an endpoint that was disabled, since it acknowledged nothing for too long, until it is resumed', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: every(30) });
    const disabled: { endpointId: string; failingMs: number }[] = [];
    notifier.events.on('endpoint:disabled', (one) => disabled.push(one));
    const id = await notifier.endpoints.subscribe({ url: receiver.url, events: ['*'], keyRef: 'k' });
    await suite.use(notifier.worker({ disableAfter: 200, breaker: { failures: 1_000 } })).start();
    await notifier.now().trigger(to('subscribed'));
    await until(() => disabled.length === 1);
    expect(disabled[0]?.endpointId).toBe(id);
    expect(disabled[0]?.failingMs).toBeGreaterThanOrEqual(200);
    expect(await notifier.endpoints.get(id)).toMatchObject({ status: 'PAUSED', disabled: true, failingSince: expect.any(Number) });
    expect(await notifier.now().trigger(to('subscribed', { sequence: 1 }))).toEqual([]);
    expect(await rows({ state: 'PENDING' })).toHaveLength(1);
    receiver.behave('ok');
    expect(await notifier.endpoints.resume(id, by)).toBe(true);
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    await until(async () => (await notifier.endpoints.get(id))?.status === 'IDLE');
    expect(await notifier.endpoints.get(id)).toMatchObject({ disabled: false, failingSince: null });
    expect(disabled).toHaveLength(1);
  });

  it('disables an endpoint that has failed for days, over all sessions, and not one that acknowledged in between', async () => {
    const receiver = await suite.receiver([500, 'ok', 500]);
    const notifier = suite.notifier({ schedule: every('1h').upTo(1) });
    const disabled: string[] = [];
    notifier.events.on('endpoint:disabled', ({ endpointId }) => disabled.push(endpointId));
    const id = await notifier.endpoints.subscribe({ url: receiver.url, events: ['*'], keyRef: 'k' });
    await suite.use(notifier.worker()).start();
    const found: string[] = [];
    for (const [sequence, days] of [0, 3, 6, 9, 12].entries()) {
      notifier.database.clockOffsetMs = days * 86_400_000;
      await notifier.now().trigger(to('subscribed', { sequence }));
      await until(async () => (await rows().then((all) => all.filter(({ state }) => state !== 'PENDING'))).length === sequence + 1);
      const status = await until(async () => {
        const now = (await notifier.endpoints.get(id))?.status;
        return now === 'IDLE' || now === 'PAUSED' ? now : undefined;
      });
      found.push(status);
    }
    expect(found).toEqual(['IDLE', 'IDLE', 'IDLE', 'IDLE', 'PAUSED']);
    await until(() => disabled.length === 1);
    expect(disabled).toEqual([id]);
    notifier.database.clockOffsetMs = 0;
  });
});
