import { silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { type HostileReceiver, hostileReceiver } from '@holdfast/notifier/testing';
import type { FastifyInstance } from 'fastify';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Algorithm } from '../src/algorithm.ts';
import { readConfig } from '../src/config.ts';
import { Dispatch } from '../src/dispatch.ts';
import { buildPage } from '../src/page.ts';
import { createServer } from '../src/server.ts';

describe.each([...testDialects()])('compute-dispatch on $name', (dialect) => {
  let db: TestDatabase;
  let shards: readonly [TestDatabase, TestDatabase];
  let dispatch: Dispatch;
  let algorithm: Algorithm;
  let app: FastifyInstance;
  let address: string;
  let customer: HostileReceiver;
  beforeAll(async () => {
    db = await dialect.create();
    shards = [await dialect.create(), await dialect.create()];
    customer = await hostileReceiver();
    const egress = { allowHttp: true, allowCidrs: ['127.0.0.1/32'], allowPorts: [customer.port] };
    dispatch = await Dispatch.open({
      knex: db.knex,
      invoiceDatabases: [shards[0].knex, shards[1].knex],
      billingMs: 1_000,
      losePercent: 30,
      machines: 96,
      logger: silentLogger,
      secret: 'x'.repeat(32),
      egress,
    });
    await dispatch.start();
    algorithm = new Algorithm({ knex: db.knex, config: readConfig({}), logger: silentLogger });
    await algorithm.start();
    app = await createServer(dispatch, algorithm, await buildPage());
    address = await app.listen({ port: 0, host: '127.0.0.1' });
  });
  afterAll(async () => {
    await app?.close();
    await algorithm?.stop();
    await dispatch?.stop();
    await customer?.close();
    for (const one of [db, ...(shards ?? [])]) await one?.drop();
  });
  const post = (body: unknown, tenant = 'test') =>
    fetch(`${address}/v1/batches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-tenant': tenant },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const order = (businessOrderNo: string, more: object = {}) => ({ businessOrderNo, packageId: 'standard', count: 5, minimum: 2, ...more });
  const final = (id: string) => async () => {
    const batch = await (await fetch(`${address}/v1/batches/${id}`, { headers: { 'x-tenant': 'test' } })).json();
    return ['FULFILLED', 'PARTIAL', 'FAILED'].includes(batch.state) ? batch : undefined;
  };

  it('makes 50 identical applies at once one batch, and fills it', async () => {
    const responses = await Promise.all(Array.from({ length: 50 }, () => post(order('same'))));
    expect(new Set(responses.map((response) => response.status))).toEqual(new Set([202]));
    const ids = new Set((await Promise.all(responses.map((response) => response.json()))).map((batch) => batch.id));
    expect(ids.size).toBe(1);
    const batch = await until(final([...ids][0]));
    expect(batch).toMatchObject({ state: 'FULFILLED', granted: 5 });
    const { slots } = await (await fetch(`${address}/v1/batches/${batch.id}/slots`, { headers: { 'x-tenant': 'test' } })).json();
    expect(slots).toHaveLength(5);
    expect(
      slots.every((slot: { applyId: string; machineId: string }) => /^\d{17,20}$/.test(slot.applyId) && slot.machineId.startsWith('m-')),
    ).toBe(true);
    expect((await fetch(`${address}/v1/slots/${slots[0].applyId}`, { headers: { 'x-tenant': 'test' } })).status).toBe(200);
    expect((await fetch(`${address}/v1/slots/${slots[0].applyId}`, { headers: { 'x-tenant': 'other' } })).status).toBe(404);
  });

  it.each([
    ['another body under the same order number', order('same', { count: 6 }), 422, 'order-number-reused'],
    ['a count below the minimum', order('n1', { count: 1 }), 422, 'count-below-minimum'],
    ['an unknown package', order('n2', { packageId: 'huge' }), 422, 'unknown-package'],
    ['a deadline in the past', order('n3', { deadline: '2020-01-01T00:00:00Z' }), 422, 'deadline-in-the-past'],
    ['a minimum above what is free', order('n4', { count: 900, minimum: 900 }), 409, 'capacity-below-minimum'],
    ['a count that is no number', order('n5', { count: 'many' }), 422, 'invalid-request'],
    ['a body that is no JSON', '{', 400, 'invalid-request'],
  ])('refuses %s as problem+json and saves nothing', async (_name, body, status, type) => {
    const response = await post(body);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    const problem = await response.json();
    expect(problem.type).toContain(type);
    expect(problem.detail.length).toBeGreaterThan(10);
    expect(await db.knex('dispatch_batch').where('business_order_no', 'like', 'n%')).toEqual([]);
  });

  it('gives no machine twice to batches that compete for the last ones, and ends all by their deadline', async () => {
    const responses = await Promise.all(
      Array.from({ length: 12 }, (_, i) => post(order(`race-${i}`, { count: 15, minimum: 1, applyDurationMinutes: 0.05 }))),
    );
    const accepted = (await Promise.all(responses.map((response) => response.json()))).filter((batch) => batch.id);
    expect(accepted.length).toBeGreaterThan(0);
    const batches = await Promise.all(accepted.map((batch) => until(final(batch.id))));
    expect(batches.some((batch) => batch.state !== 'FULFILLED')).toBe(true);
    const active = await db.knex('dispatch_lease').where({ active: 1 });
    expect(new Set(active.map((lease) => lease.machine_id)).size).toBe(active.length);
    expect(new Set(active.map((lease) => lease.apply_id)).size).toBe(active.length);
  });

  it('has an OpenAPI 3.1 document with every endpoint', async () => {
    const document = await (await fetch(`${address}/openapi.json`)).json();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/v1/batches',
      '/v1/batches/{id}',
      '/v1/batches/{id}/slots',
      '/v1/batches/{id}/timeline',
      '/v1/callback-endpoint',
      '/v1/callbacks/{id}/resend',
      '/v1/invoice-scan',
      '/v1/slots/{id}',
      '/v1/slots/{id}/callbacks',
      '/v1/slots/{id}/invoices',
    ]);
  });

  // The page is the same on each.
  if (dialect.name !== 'sqlite') return;
  it.runIf(process.env.HOLDFAST_CHROMIUM)('shows in a real browser how slots are granted', async () => {
    const browser = await chromium.launch({
      executablePath: process.env.HOLDFAST_CHROMIUM as string,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
      ],
    });
    try {
      const page = await browser.newPage({ viewport: { width: 1440, height: 800 } });
      const complaints: string[] = [];
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      await dispatch.callbacks.register('demo', customer.url);
      await page.goto(address);
      await page.waitForFunction(() => document.querySelectorAll('#room li').length === 96);
      await page.fill('[name=businessOrderNo]', 'by-hand');
      await page.fill('[name=count]', '4');
      await page.fill('[name=minimum]', '1');
      await page.selectOption('[name=packageId]', 'graphics');
      await page.click('#apply button');
      await page.waitForFunction(() => document.querySelector('[data-order="by-hand"]')?.textContent?.includes('FULFILLED'));
      expect(await page.textContent('[data-order="by-hand"]')).toContain('4 / 4');
      // What the customer was told of a slot, and once more.
      await page.click('[data-order="by-hand"] button');
      await page.click('#slots tr:first-child button');
      await page.waitForFunction(() => document.querySelectorAll('#callbacks [data-outcome="delivered"]').length === 2);
      await page.click('#callbacks li:first-child button');
      await page.waitForFunction(() => document.querySelectorAll('#callbacks [data-outcome="delivered"]').length === 3);
      expect(await page.textContent('#callbacks')).toContain('manual');
      // Invoices whose sender was lost, found and sent by a scan that shows how far it is.
      const figure = async (name: string) => Number((await page.textContent(`#messages-${name}`))?.replaceAll(',', ''));
      await until(async () => (await figure('invoicesUnsent')) > 2);
      for (const { knex } of shards)
        for (let table = 0; table < 4; table++) await knex(`invoice_00${table}`).decrement('created_ms', 31_000);
      await page.click('#scan button');
      await page.waitForFunction(() =>
        /^Pass \d+, .* ended .* [1-9]\d* sent again/.test(document.querySelector('#scan-pass')?.textContent ?? ''),
      );
      expect(await page.locator('#units li[data-state="done"]').count()).toBe(8);
      await page.fill('[name=databases]', '9');
      await page.click('#scan button');
      await page.waitForFunction(() => document.querySelector('#scan-answer')?.textContent?.includes('databases 1 to 2'));
      complaints.splice(0, complaints.length, ...complaints.filter((line) => !line.includes('422')));
      for (const width of [360, 1440]) {
        await page.setViewportSize({ width, height: 800 });
        expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)).toBe(true);
      }
      if (process.env.HOLDFAST_SCREENSHOT) await page.screenshot({ path: process.env.HOLDFAST_SCREENSHOT, fullPage: true });
      expect(complaints).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});
