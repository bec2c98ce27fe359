import { testDialects, until } from '@holdfast/core/testing';
import { adminDouble } from '@holdfast/xxl-job/testing';
import { describe, expect, it } from 'vitest';
import type { InvoiceView, ScanView } from '../src/invoices.ts';
import { onProcesses, type Started } from './processes.ts';

describe.each(testDialects())('invoices of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);
  const call = async ({ call }: Started, path: string, method = 'GET', body?: object) => {
    const answer = await call(method, path, body, path.includes('scan') ? 'admin' : 'demo');
    return { status: answer.status, body: answer.body as never };
  };
  const rows = async (database: 0 | 1) => {
    const found: { readonly id: string; readonly table: string; readonly mq_state: number }[] = [];
    for (let table = 0; table < 4; table++)
      found.push(
        ...(await processes.shards[database].knex(`invoice_00${table}`)).map(({ id, mq_state }) => ({
          id: String(id),
          table: `0${database + 1}.00${table}`,
          mq_state: Number(mq_state),
        })),
      );
    return found;
  };
  const unsent = async (database: 0 | 1) => (await rows(database)).filter(({ mq_state }) => mq_state === 0).map(({ id }) => id);
  /** As if half a minute had gone by: so long the scan leaves an invoice to whoever drew it up. */
  const age = async () => {
    for (const { knex } of processes.shards)
      for (let table = 0; table < 4; table++) await knex(`invoice_00${table}`).decrement('created_ms', 31_000);
  };
  const booked = async () => new Set((await processes.db.knex('billing_usage')).map(({ invoice_id }) => String(invoice_id)));
  const order = { businessOrderNo: 'billed', packageId: 'standard', count: 12, minimum: 1, applyDurationMinutes: 1 };

  it('are sent after their commit; those whose sender was lost are found by the scan, in the databases that it is told, and booked once', async () => {
    const address = await processes.start({
      DISPATCH_BILLING_SECONDS: '1',
      DISPATCH_LOSE_PERCENT: '40',
      DISPATCH_SCAN_SECONDS: '3600',
      DISPATCH_MACHINES: '60',
    });
    const { id } = (await call(address, '/v1/batches', 'POST', order)).body as { id: string };
    await until(async () => (await unsent(0)).length >= 3 && (await unsent(1)).length >= 3, { withinMs: 40_000, what: 'lost invoices' });
    for (const databases of ['', '0', '-1', '9', 'x', '1,,2'])
      expect(await call(address, '/v1/invoice-scan', 'POST', { databases })).toMatchObject({
        status: 422,
        body: { type: expect.stringContaining('unknown-databases'), detail: expect.stringContaining('1 to 2') },
      });
    // Some of those that are not marked are just being sent; a second later they are.
    const seen = [await unsent(0), await unsent(1)] as const;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const still = [new Set(await unsent(0)), new Set(await unsent(1))] as const;
    const lost = [seen[0].filter((id) => still[0].has(id)), seen[1].filter((id) => still[1].has(id))] as const;
    expect(Math.min(lost[0].length, lost[1].length)).toBeGreaterThan(0);
    for (const one of lost.flat()) expect((await booked()).has(one)).toBe(false);
    await age();
    const scanned = async (databases: string, atLeast: number): Promise<ScanView> => {
      expect((await call(address, '/v1/invoice-scan', 'POST', { databases })).status).toBe(202);
      return until(async () => {
        const view = (await call(address, '/v1/invoice-scan')).body as ScanView;
        return view.endedAt && view.units.reduce((sum, { handled }) => sum + handled, 0) >= atLeast ? view : undefined;
      });
    };
    const first = await scanned('1', lost[0].length);
    expect(first.units.map(({ unit, state }) => `${unit} ${state}`)).toEqual(['01.000 done', '01.001 done', '01.002 done', '01.003 done']);
    await until(
      async () =>
        lost[0].every(
          (
            (known) => (one: string) =>
              known.has(one)
          )(await booked()),
        ),
      { what: 'booked' },
    );
    expect((await rows(0)).filter(({ id }) => lost[0].includes(id)).every(({ mq_state }) => mq_state === 1)).toBe(true);
    // The other database was not asked for.
    expect((await unsent(1)).filter((one) => lost[1].includes(one))).toEqual(lost[1]);
    await scanned('2', lost[1].length);
    await until(
      async () =>
        lost[1].every(
          (
            (known) => (one: string) =>
              known.has(one)
          )(await booked()),
        ),
      { what: 'booked' },
    );
    // Every slot's, one after another without a gap, in the one table that its id leads to.
    const { slots } = (await call(address, `/v1/batches/${id}/slots`)).body as { slots: { applyId: string }[] };
    for (const { applyId } of slots) {
      const { invoices } = (await call(address, `/v1/slots/${applyId}/invoices`)).body as { invoices: InvoiceView[] };
      expect(invoices.length).toBeGreaterThan(0);
      expect(new Set(invoices.map(({ shard }) => shard)).size).toBe(1);
      for (const [i, { from }] of invoices.entries()) if (i > 0) expect(from).toBe(invoices[i - 1]?.to);
    }
  }, 90_000);

  it('are looked for when an xxl-job admin triggers it, which reads what was scanned, table by table', async () => {
    await using admin = await adminDouble('2.3');
    const address = await processes.start({
      DISPATCH_BILLING_SECONDS: '1',
      DISPATCH_LOSE_PERCENT: '100',
      DISPATCH_XXL_ADMINS: admin.url,
      DISPATCH_XXL_TOKEN: 'default_token',
      DISPATCH_XXL_PORT: '0',
    });
    await until(() => admin.registered.size === 1, { withinMs: 20_000, what: 'the executor registers' });
    const [executor = ''] = admin.registered.keys();
    await call(address, '/v1/batches', 'POST', order);
    await until(async () => (await unsent(0)).length >= 3, { withinMs: 40_000, what: 'lost invoices' });
    const lost = await unsent(0);
    await age();
    expect(await admin.trigger(executor, { jobId: 7, logId: 70, handler: 'invoiceScanJobHandler', param: '1,2' })).toMatchObject({
      code: 200,
    });
    await until(() => admin.callbacks.some(({ logId }) => logId === '70'), { withinMs: 30_000, what: 'the end of the job' });
    expect(admin.callbacks).toMatchObject([{ logId: '70', code: 200 }]);
    const { logContent } = await admin.log(executor, '70');
    for (const unit of ['01.000', '01.003', '02.000', '02.003'])
      expect(logContent).toMatch(new RegExp(`${unit} done: \\d+ scanned, \\d+ not sent, 0 failed`));
    await until(
      async () =>
        lost.every(
          (
            (known) => (one: string) =>
              known.has(one)
          )(await booked()),
        ),
      { what: 'booked' },
    );
    await admin.trigger(executor, { jobId: 7, logId: 71, handler: 'invoiceScanJobHandler', param: '3' });
    await until(() => admin.callbacks.some(({ logId }) => logId === '71'), { withinMs: 30_000, what: 'the end of the job' });
    expect(admin.callbacks.at(-1)).toMatchObject({ code: 500, msg: expect.stringContaining('databases 1 to 2') });
    // A table that is gone: the others are scanned, and the admin sees that it is not all.
    await processes.shards[1].knex.schema.renameTable('invoice_002', 'invoice_gone');
    await admin.trigger(executor, { jobId: 7, logId: 72, handler: 'invoiceScanJobHandler', param: '2' });
    await until(() => admin.callbacks.some(({ logId }) => logId === '72'), { withinMs: 30_000, what: 'the end of the job' });
    expect(admin.callbacks.at(-1)).toMatchObject({ code: 500, msg: 'Not all invoices were scanned: 02.002.' });
    const part = await admin.log(executor, 72);
    expect(part.logContent).toMatch(/02\.002 failed: .*There is no table invoice_002/);
    expect(part.logContent).toMatch(/02\.003 done/);
  }, 90_000);
});
