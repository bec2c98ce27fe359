import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeSnowflake } from '@holdfast/core';
import { testDialects, until } from '@holdfast/core/testing';
import { type HostileReceiver, hostileReceiver } from '@holdfast/notifier/testing';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BatchView, SlotView } from '../src/batches/views.ts';
import { configTable } from '../src/config.ts';
import { startService, type TestService } from './service.ts';

const problemJson = expect.stringMatching(/^application\/problem\+json/);

describe.each(testDialects())('compute-dispatch on $name', (dialect) => {
  let service: TestService;
  let customer: HostileReceiver;
  beforeAll(async () => {
    customer = await hostileReceiver();
    const egress = { allowHttp: true, allowCidrs: ['127.0.0.1/32'], allowPorts: [customer.port] };
    service = await startService(dialect, { billingMs: 1_000, egress });
  });
  afterAll(async () => {
    await service?.stop();
    await customer?.close();
  });
  const order = (businessOrderNo: string, more: object = {}) => ({ businessOrderNo, packageId: 'standard', count: 5, minimum: 2, ...more });
  const post = (body: unknown, as = 'test') => service.call<BatchView>('POST', '/v1/batches', { as, body });
  const read = async (id: string) => (await service.call<BatchView>('GET', `/v1/batches/${id}`)).body;
  const final = (id: string) =>
    until(async () => ((await read(id)).result ? read(id) : undefined), { withinMs: 30_000, what: `result of ${id}` });
  const ended = (id: string) =>
    until(async () => ((await read(id)).state === 'ENDED' ? read(id) : undefined), { withinMs: 30_000, what: `end of ${id}` });
  const slots = async (id: string) => (await service.call<{ slots: SlotView[] }>('GET', `/v1/batches/${id}/slots`)).body.slots;
  const free = async () =>
    Number((await service.db.knex('dispatch_machine').where({ state: 'FREE', package_id: 'standard' }).count({ n: '*' }).first())?.n);
  const used = async () => (await service.dispatch.tenants.get('test'))?.usedSlots;
  /** Everything that this test has taken is given back. */
  const giveBack = async (...ids: string[]) => {
    for (const id of ids) {
      const { status } = await service.call('POST', `/v1/batches/${id}/release`);
      if (status === 409) await service.call('POST', `/v1/batches/${id}/cancel`);
      await ended(id);
    }
    expect(await used()).toBe(0);
  };
  const verdicts = async () => {
    const broken = async () =>
      (await service.dispatch.invariants.check({ truth: service.room.truth(), quiet: true })).filter(({ holds }) => !holds);
    await until(async () => (await broken()).length === 0, { withinMs: 10_000 }).catch(() => undefined);
    expect(await broken()).toEqual([]);
  };

  it('makes 50 identical applies at once one batch, fills it, bills it, and ends it', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => post(order('same'))));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    const { id } = (answers[0] as { body: BatchView }).body;
    expect(await final(id)).toMatchObject({
      state: 'FULFILLED',
      result: 'FULFILLED',
      granted: 5,
      running: 5,
      priceVersion: 1,
      policy: 'min_then_fill',
    });
    expect(await used()).toBe(5);
    const all = await slots(id);
    expect(all).toHaveLength(5);
    for (const slot of all)
      expect(slot).toMatchObject({
        state: 'RUNNING',
        power: 'ON',
        desired: 'ON',
        machineId: expect.stringMatching(/^m-\d{6}$/),
        ip: expect.any(String),
      });
    const [first] = all as [SlotView, ...SlotView[]];
    expect((await service.call('GET', `/v1/slots/${first.applyId}`)).body).toEqual(first);
    expect((await service.call('GET', `/v1/slots/${first.applyId}`, { as: 'other' })).status).toBe(404);
    await until(async () => (await service.call('GET', '/v1/usage')).body.usage.some(({ ms }: { ms: number }) => ms >= 5_000), {
      withinMs: 20_000,
    });
    // One machine is switched off: its slot ends, the others run on.
    expect((await service.call('POST', `/v1/slots/${first.applyId}/power`, { body: { desired: 'OFF' } })).status).toBe(202);
    await until(async () => (await service.call('GET', `/v1/slots/${first.applyId}`)).body.state === 'ENDED');
    expect((await service.call('POST', `/v1/slots/${first.applyId}/power`, { body: { desired: 'ON' } })).body.type).toContain(
      'slot-not-up',
    );
    expect((await read(id)).state).toBe('FULFILLED');
    expect((await service.call('POST', `/v1/batches/${id}/cancel`)).body.type).toContain('batch-not-filling');
    await giveBack(id);
    expect(await read(id)).toMatchObject({ state: 'ENDED', result: 'FULFILLED', slots: { ENDED: 5 } });
    const { timeline } = (await service.call('GET', `/v1/slots/${first.applyId}/timeline`)).body;
    const seen = new Set(timeline.map(({ by, what }: { by: string; what: string }) => `${by} ${what}`));
    for (const what of [
      'apply ACCEPTED',
      'task allocate SUCCESS',
      'room RESERVED',
      'inbox GRANTED',
      'room POWER ON',
      'inbox RUNNING',
      'billing USAGE',
      'room POWER OFF',
      'inbox ENDED',
      'room RELEASED',
    ])
      expect(seen).toContain(what);
    await verdicts();
    const truth = service.room
      .truth()
      .reduce((sum, { intervals }) => sum + intervals.reduce((ms, { fromMs, toMs }) => ms + ((toMs ?? fromMs) - fromMs), 0), 0);
    expect((await service.call('GET', '/v1/usage')).body.usage).toMatchObject([{ packageId: 'standard', ms: truth }]);
  });

  it.each([
    ['another body under the same order number', order('same', { count: 6 }), 422, 'order-number-reused'],
    ['a count below the minimum', order('n1', { count: 1 }), 422, 'count-below-minimum'],
    ['an unknown package', order('n2', { packageId: 'huge' }), 422, 'unknown-package'],
    ['a deadline in the past', order('n3', { deadline: '2020-01-01T00:00:00Z' }), 422, 'deadline-in-the-past'],
    ['a minimum above what is free', order('n4', { count: 900, minimum: 900 }), 409, 'capacity-below-minimum'],
    ['all or nothing above what is free', order('n4', { count: 900, minimum: 1, policy: 'all_or_nothing' }), 409, 'capacity-below-minimum'],
    ['a count that is no number', order('n5', { count: 'many' }), 422, 'invalid-request'],
    ['a control character in the order number', order('n\u0000'), 422, 'invalid-request'],
    ['a lone surrogate in the order number', order('n\ud800'), 422, 'invalid-request'],
    ['a body that is no JSON', '{', 400, 'invalid-request'],
    ['a notifyUrl without a key', order('n6', { notifyUrl: 'https://example.com/' }), 422, 'notify-sign-key-missing'],
    ['a key without a notifyUrl', order('n7', { notifySignKey: 'whsec_x' }), 422, 'notify-url-missing'],
    [
      'a notifyUrl that may not be called',
      order('n8', { notifyUrl: 'http://169.254.169.254/', notifySignKey: `whsec_${'A'.repeat(32)}` }),
      422,
      'callback-url-not-allowed',
    ],
    ['a key that signs nothing', order('n9', { notifyUrl: 'https://example.com/', notifySignKey: 'short' }), 422, 'sign-key-not-usable'],
  ])('refuses %s as problem+json and saves nothing', async (_name, body, status, problem) => {
    const answer = await service.call('POST', '/v1/batches', { body });
    expect(answer).toMatchObject({ status, type: problemJson });
    expect(answer.body.type).toContain(problem);
    expect(answer.body.detail.length).toBeGreaterThan(10);
    expect(await service.db.knex('dispatch_batch').where('business_order_no', 'like', 'n%')).toEqual([]);
    expect(await used()).toBe(0);
  });

  it('refuses an order of which nobody would hear, and says what to do; the same order is taken once there is an address', async () => {
    expect((await service.call('PUT', '/v1/tenants/deaf', { as: 'admin', body: {} })).status).toBe(200);
    const { key } = (await service.call('POST', '/v1/tenants/deaf/keys', { as: 'admin' })).body;
    const ask = async (method: string, path: string, body: object) => {
      const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
      const response = await fetch(`${service.address}${path}`, { method, headers, body: JSON.stringify(body) });
      return { status: response.status, type: response.headers.get('content-type'), body: await response.json() };
    };
    const wanted = order('heard', { count: 2, minimum: 1 });
    const refused = await ask('POST', '/v1/batches', { ...wanted, notifyUrl: null });
    expect(refused).toMatchObject({ status: 422, type: problemJson, body: { code: 'notify-url-missing' } });
    expect((refused.body as { detail: string }).detail).toMatch(/notifyUrl and notifySignKey, or register .* PUT \/v1\/callback-endpoint/);
    expect(await service.db.knex('dispatch_batch').where({ tenant: 'deaf' })).toEqual([]);
    expect((await ask('PUT', '/v1/callback-endpoint', { url: customer.url })).status).toBe(200);
    const taken = (await ask('POST', '/v1/batches', wanted)).body as BatchView;
    expect(taken.count).toBe(2);
    // Made by snowflake-id under a worker id of its own.
    const rows = await service.db.knex('dispatch_slot').where({ batch_id: taken.id });
    const made = new Set(rows.map(({ apply_id }) => decodeSnowflake(String(apply_id)).workerId));
    expect(made.size).toBe(1);
    expect(made.has(decodeSnowflake(taken.id).workerId)).toBe(false);
    const end = async (how: string) => (await ask('POST', `/v1/batches/${taken.id}/${how}`, {})).status === 202;
    await until(async () => (await end('release')) || (await end('cancel')));
    const row = () => service.db.knex('dispatch_batch').where({ id: taken.id }).first();
    await until(async () => (await row()).state === 'ENDED', { withinMs: 30_000 });
  });

  it('asks for a key, and does not say what is another tenant’s', async () => {
    for (const as of ['', 'nobody'])
      expect(await service.call('GET', '/v1/batches', { as })).toMatchObject({
        status: 401,
        type: problemJson,
        body: { title: 'No valid API key' },
      });
    expect((await service.call('GET', '/v1/batches', { as: 'admin' })).body.type).toContain('tenant-missing');
    expect((await service.call('GET', '/v1/batches', { as: 'admin', tenant: 'test' })).status).toBe(200);
    expect((await service.call('GET', '/v1/batches', { as: 'admin', tenant: 'no-such' })).status).toBe(404);
    // A tenant's key is its own, whatever the header says.
    const mine = (await service.call('GET', '/v1/batches', { as: 'test' })).body.batches.length;
    expect(mine).toBeGreaterThan(0);
    expect((await service.call('GET', '/v1/batches', { as: 'other', tenant: 'test' })).body.batches).toEqual([]);
    for (const [method, path] of [
      ['GET', '/v1/tenants'],
      ['GET', '/v1/invariants'],
      ['POST', '/v1/prices'],
      ['PUT', '/v1/misbehaviour'],
      ['POST', '/v1/reconcile'],
      ['POST', '/v1/crash'],
    ] as const)
      expect((await service.call(method, path, { body: method === 'GET' ? undefined : {} })).status).toBe(404);
    expect((await service.call('POST', '/v1/room/events', { body: { events: [] } })).status).toBe(401);
  });

  it('makes tenants, gives them keys, takes keys back, and holds them to their quota', async () => {
    const put = (body: object) => service.call('PUT', '/v1/tenants/small', { as: 'admin', body });
    expect((await put({ maxSlots: 7 })).body).toMatchObject({ id: 'small', maxSlots: 7, usedSlots: 0 });
    const { key } = (await service.call('POST', '/v1/tenants/small/keys', { as: 'admin' })).body;
    const ask = (method: string, path: string, body?: object) =>
      fetch(`${service.address}${path}`, {
        method,
        headers: { authorization: `Bearer ${key}`, ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
    expect((await ask('PUT', '/v1/callback-endpoint', { url: customer.url })).status).toBe(200);
    const results = await Promise.all(
      Array.from({ length: 6 }, (_, i) => ask('POST', '/v1/batches', order(`q${i}`, { count: 3, minimum: 1 }))),
    );
    expect(results.map(({ status }) => status).sort()).toEqual([202, 202, 409, 409, 409, 409]);
    const refused = results.find(({ status }) => status === 409) as Response;
    expect(((await refused.json()) as { type: string }).type).toContain('quota-exceeded');
    expect(await (await ask('GET', '/v1/tenant')).json()).toMatchObject({ usedSlots: 6 });
    const { batches } = (await (await ask('GET', '/v1/batches')).json()) as { batches: BatchView[] };
    for (const { id } of batches) {
      await until(async () => [202, 404].includes((await ask('POST', `/v1/batches/${id}/release`)).status));
    }
    await until(async () => ((await (await ask('GET', '/v1/tenant')).json()) as { usedSlots: number }).usedSlots === 0);
    expect((await put({ maxSlots: 1 })).body.maxSlots).toBe(1);
    const [listed] = (await service.call('GET', '/v1/tenants/small/keys', { as: 'admin' })).body.keys;
    expect(key).toContain(listed.id);
    expect((await service.call('DELETE', `/v1/tenants/small/keys/${listed.id}`, { as: 'admin' })).status).toBe(204);
    expect((await service.call('DELETE', `/v1/tenants/small/keys/${listed.id}`, { as: 'admin' })).status).toBe(404);
    await until(async () => (await ask('GET', '/v1/tenant')).status === 401, { withinMs: 15_000 });
  });

  it('keeps the price at which was ordered, and takes the new one for what is ordered later', async () => {
    const before = (await post(order('price-1', { count: 1, minimum: 1, packageId: 'graphics' }))).body;
    expect(
      (await service.call('POST', '/v1/prices', { as: 'admin', body: { packageId: 'graphics', centsPerHour: 3_600_000 } })).body,
    ).toMatchObject({ version: 2 });
    expect((await service.call('POST', '/v1/prices', { as: 'admin', body: { packageId: 'none', centsPerHour: 1 } })).status).toBe(404);
    const after = (await post(order('price-2', { count: 1, minimum: 1, packageId: 'graphics' }))).body;
    expect([before.priceVersion, after.priceVersion]).toEqual([1, 2]);
    await final(before.id);
    await final(after.id);
    await giveBack(before.id, after.id);
    await until(
      async () =>
        (await service.call('GET', '/v1/usage')).body.usage.filter(({ packageId }: { packageId: string }) => packageId === 'graphics')
          .length === 2,
    );
    const usage = (await service.call('GET', '/v1/usage')).body.usage.find(
      ({ priceVersion }: { priceVersion: number }) => priceVersion === 2,
    );
    expect(usage.amountCents).toBe(usage.ms);
    expect((await service.call('GET', '/v1/packages')).body.packages).toMatchObject([
      { id: 'graphics', priceVersion: 2, parameters: { codec: 'h264' } },
      { id: 'standard', priceVersion: 1 },
    ]);
  });

  it('shows its catalogue: machines in pages, and parameters that reach the room with the next lease', async () => {
    const ids: string[] = [];
    let after = '';
    do {
      const { machines, next } = (await service.call('GET', `/v1/machines?limit=40${after}`, { as: 'admin' })).body;
      ids.push(...machines.map(({ id }: { id: string }) => id));
      after = next === null ? '' : `&after=${next}`;
    } while (after !== '');
    expect(ids).toEqual([...ids].sort());
    expect(new Set(ids).size).toBe(96);
    expect((await service.call('GET', '/v1/machines')).status).toBe(404);
    const put = (packageId: string, parameters: object) =>
      service.call('PUT', `/v1/packages/${packageId}/parameters`, { as: 'admin', body: { parameters } });
    expect((await put('standard', { codec: 'av1', maxFps: null })).body.parameters).toEqual({ codec: 'av1', resolution: '1920x1080' });
    expect((await put('none', {})).status).toBe(404);
    const grant = vi.spyOn(service.room, 'grant');
    const { body } = await post(order('with-parameters', { count: 1, minimum: 1 }));
    await final(body.id);
    expect(grant.mock.calls[0]?.[0]).toMatchObject([{ network: 'vlan-100', parameters: { codec: 'av1' } }]);
    grant.mockRestore();
    await giveBack(body.id);
    expect((await put('standard', { codec: 'h264', maxFps: '60' })).status).toBe(200);
  });

  it('fills by policy: all or nothing, as much as can be, the minimum first', async () => {
    const room = await free();
    const all = (await post(order('all', { count: room, minimum: 1, policy: 'all_or_nothing' }))).body;
    expect(all.minimum).toBe(room);
    expect(await final(all.id)).toMatchObject({ result: 'FULFILLED', running: room });
    // Nothing is free: an order is refused, its number stays free.
    expect((await post(order('later', { count: 1, minimum: 1 }))).status).toBe(409);
    await giveBack(all.id);
    // Two that want nearly all, at once: both pass the check, one comes short.
    const [one, two] = await Promise.all([
      post(order('short-1', { count: room - 2, minimum: room - 2, policy: 'all_or_nothing', applyDurationMinutes: 0.03 })),
      post(order('short-2', { count: room - 2, minimum: room - 2, policy: 'all_or_nothing', applyDurationMinutes: 0.03 })),
    ]);
    const results = [await final(one.body.id), await final(two.body.id)];
    expect(results.map(({ result }) => result).sort()).toEqual(expect.arrayContaining(['FAILED']));
    for (const failed of results.filter(({ result }) => result === 'FAILED'))
      expect(failed).toMatchObject({ granted: 0, slots: { EXPIRED: room - 2 } });
    await giveBack(one.body.id, two.body.id);
    const effort = (await post(order('effort', { count: room + 5, minimum: 1, policy: 'best_effort' }))).body;
    expect(await final(effort.id)).toMatchObject({ result: 'PARTIAL', running: room, slots: { EXPIRED: 5 } });
    expect(await used()).toBe(room);
    await giveBack(effort.id);
    await verdicts();
  }, 120_000);

  it('cancels what is being filled: what runs is switched off, all is given back', async () => {
    const room = await free();
    const { body } = await post(order('cancelled', { count: room + 3, minimum: 1, applyDurationMinutes: 5 }));
    await until(async () => (await read(body.id)).running === room, { withinMs: 20_000 });
    expect((await service.call('POST', `/v1/batches/${body.id}/release`)).body.type).toContain('batch-filling');
    expect((await service.call('POST', `/v1/batches/${body.id}/cancel`, { as: 'other' })).status).toBe(404);
    expect((await service.call('POST', `/v1/batches/${body.id}/cancel`)).body).toMatchObject({ result: 'CANCELLED' });
    expect((await service.call('POST', `/v1/batches/${body.id}/cancel`)).status).toBe(202);
    expect(await ended(body.id)).toMatchObject({ result: 'CANCELLED', slots: { ENDED: room, EXPIRED: 3 } });
    expect(await used()).toBe(0);
    await until(async () => (await free()) === room);
    await verdicts();
  }, 60_000);

  it('tells the address and signs with the key of the order, else those of the tenant', async () => {
    const key = `whsec_${Buffer.alloc(24, 9).toString('base64')}`;
    const { body } = await post(order('told', { count: 2, minimum: 1, notifyUrl: `${customer.url}?order`, notifySignKey: key }));
    await final(body.id);
    const own = () => customer.requests.filter(({ path }) => path.endsWith('?order'));
    await until(() => own().length >= 4);
    for (const { body: text, headers } of own()) new Webhook(key).verify(text, headers as Record<string, string>);
    expect(JSON.parse(own()[0]?.body ?? '')).toMatchObject({ type: 'slot.changed', batchId: body.id, state: 'GRANTED', sequence: 1 });
    const row = await service.db.knex('dispatch_batch').where({ id: body.id }).first();
    expect(JSON.stringify(row)).not.toContain(key.slice(6));
    expect(JSON.stringify(await read(body.id))).not.toContain('otify');
    const registered = (await service.call('PUT', '/v1/callback-endpoint', { body: { url: `${customer.url}?tenant` } })).body;
    const second = (await post(order('told-2', { count: 1, minimum: 1 }))).body;
    await final(second.id);
    const theirs = () => customer.requests.filter(({ path }) => path.endsWith('?tenant'));
    await until(() => theirs().length >= 2);
    for (const { body: text, headers } of theirs()) new Webhook(registered.key).verify(text, headers as Record<string, string>);
    const [slot] = await slots(second.id);
    const { callbacks } = (await service.call('GET', `/v1/slots/${slot?.applyId}/callbacks`)).body;
    expect(callbacks.map(({ says }: { says: string }) => says)).toEqual(['GRANTED', 'RUNNING']);
    expect((await service.call('POST', `/v1/callbacks/${callbacks[0].id}/resend`, { as: 'other' })).status).toBe(404);
    expect((await service.call('POST', `/v1/callbacks/${callbacks[0].id}/resend`)).status).toBe(202);
    await until(() => theirs().length >= 3);
    await giveBack(body.id, second.id);
  });

  it('lists everything that was told in order, for whoever reads on from where it was', async () => {
    const all: { seq: string; subject: string; data: { state: string; news?: number } }[] = [];
    let after = '0';
    await until(async () => (await service.dispatch.outbox.stats()).unsent === 0);
    for (;;) {
      const { events, next } = (await service.call('GET', `/v1/events?after=${after}&limit=7`)).body;
      if (events.length === 0) break;
      all.push(...events);
      after = next;
    }
    expect(all.length).toBeGreaterThan(50);
    const numbers = all.map(({ seq }) => Number(seq));
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    const bySubject = Map.groupBy(all, ({ subject }) => subject);
    for (const events of bySubject.values()) {
      const news = events.flatMap(({ data }) => data.news ?? []);
      expect(news).toEqual(news.map((_, i) => i + 1));
    }
    expect((await service.call('GET', '/v1/events', { as: 'other' })).body.events).toEqual([]);
  });

  it('gives no machine twice to 20 batches that compete for the last ones, and ends all by their deadline', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => post(order(`race-${i}`, { count: 8, minimum: 1 + (i % 8), applyDurationMinutes: 0.05 }))),
    );
    const accepted = answers.filter(({ status }) => status === 202).map(({ body }) => body.id);
    expect(accepted.length).toBeGreaterThan(9);
    const batches = await Promise.all(accepted.map(final));
    for (const batch of batches) expect(Date.parse(batch.finishedAt ?? '') - Date.parse(batch.deadline ?? '')).toBeLessThan(60_000);
    expect(batches.some(({ result }) => result !== 'FULFILLED')).toBe(true);
    const active = await service.db.knex('dispatch_lease').where({ active: 1 });
    expect(new Set(active.map((lease) => lease.machine_id)).size).toBe(active.length);
    await giveBack(...accepted);
    await verdicts();
  }, 120_000);

  it('sets aside events that can’t be read, and keeps those of strangers, where operators see both', async () => {
    const event = {
      eventId: 'stranger',
      roomId: 'room-1',
      machineId: 'm-000001',
      token: '123',
      epoch: 7,
      kind: 'OFF',
      occurredAtMs: Date.now(),
      sequence: 1,
    };
    expect((await service.call('POST', '/v1/room/events', { as: 'room', body: { events: [event, event] } })).status).toBe(202);
    expect((await service.call('POST', '/v1/room/events', { as: 'room', body: { events: [{ ...event, kind: 'SIDEWAYS' }] } })).status).toBe(
      422,
    );
    const { openBroker } = await import('../src/broker.ts');
    const broker = await openBroker(undefined, service.db.knex, service.dispatch.logger);
    const bodies = ['{', '{}', 'null', '[]', '\u0000', JSON.stringify({ ...event, epoch: 'x' }), JSON.stringify({ ...event, eventId: '' })];
    await broker.publish(
      bodies.map((body, i) => ({
        id: `bad-${i}`,
        topic: 'machine.power.v1',
        key: 'm',
        headers: {},
        body: Buffer.from(body),
        contentType: 'application/json',
      })),
    );
    const strays = async () => (await service.call('GET', '/v1/parked-events', { as: 'admin' })).body;
    await until(async () => (await strays()).unreadable.count === bodies.length && (await strays()).foreign.count === 1);
    const { unreadable, foreign } = await strays();
    expect(foreign.newest).toMatchObject([{ id: 'stranger', reason: expect.stringContaining('no lease 123 with epoch 7') }]);
    expect(unreadable.newest.every(({ reason }: { reason: string }) => reason.length > 5)).toBe(true);
    await broker.close();
  });

  it('describes itself: OpenAPI 3.1, a reference, metrics, probes, the README’s table', async () => {
    const { body: document } = await service.call('GET', '/openapi.json', { as: '' });
    expect(document.openapi).toBe('3.1.0');
    const operations = Object.entries(
      document.paths as Record<string, Record<string, { responses: Record<string, { content?: object }>; summary: string }>>,
    ).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })));
    expect(operations.length).toBeGreaterThanOrEqual(35);
    for (const { name, operation } of operations) {
      expect(operation.summary, name).toBeTruthy();
      expect(Object.keys(operation.responses), name).toContain('4XX');
      for (const [status, { content }] of Object.entries(operation.responses))
        if (!status.startsWith('2')) expect(Object.keys(content ?? {}), `${name} ${status}`).toEqual(['application/problem+json']);
    }
    const patterns = [...JSON.stringify(document).matchAll(/"pattern":("(?:[^"\\]|\\.)*")/g)].map(([, text]) => JSON.parse(text ?? '""'));
    expect(patterns.length).toBeGreaterThan(5);
    for (const pattern of patterns) expect(new RegExp(pattern).source).not.toMatch(/\\p/i);
    const ordered = document.paths['/v1/batches'].post.requestBody.content['application/json'].schema.properties;
    for (const name of ['notifyUrl', 'notifySignKey']) expect(ordered[name].description, name).toContain('Required');
    expect((await service.call('GET', '/docs', { as: '' })).body).toContain('swagger');
    expect((await service.call('GET', '/readyz', { as: '' })).status).toBe(200);
    expect((await service.call('GET', '/healthz', { as: '' })).status).toBe(200);
    const plain = (text: string) => text.replaceAll(/ +/g, ' ').replaceAll(/-+/g, '-');
    expect(plain(readFileSync(join(import.meta.dirname, '..', 'README.md'), 'utf8'))).toContain(plain(configTable()));
  });
});
