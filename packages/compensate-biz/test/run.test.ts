import { every, LeaseLostError, NotInTransactionError, steps, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any, schemaOf } from './suite-schema.ts';

onEveryDatabase('compensate-biz', (suite) => {
  const ended = (id: string) => async () => {
    const row = await suite.db.knex('compensate_biz').where({ id }).first();
    return row && ['SUCCESS', 'FAILED', 'CANCELLED'].includes(row.status) ? row : undefined;
  };

  it('runs a submitted row once and keeps it as SUCCESS', async () => {
    const biz = suite.create({ 'plain-step': bizType(any) });
    const seen: unknown[] = [];
    biz.handle('plain-step', async (context, run) => {
      seen.push([context, run.bizId, run.attempt]);
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('plain-step', { a: 'ü😀' }, { bizId: 7 });
    const row = await until(ended(id));
    expect(row).toMatchObject({ status: 'SUCCESS', biz_id: '7', cnt: 0, starts: 1 });
    expect(seen).toEqual([[{ a: 'ü😀' }, '7', 1]]);
  });

  it('leaves nothing of a submit whose transaction rolls back', async () => {
    const biz = suite.create({ rolled: bizType(any) });
    await expect(
      suite.db.knex.transaction(async (trx) => {
        await biz.in(trx).submit('rolled', {}, { once: 'r1' });
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(await biz.list({ kind: 'rolled' })).toEqual([]);
    const again = await biz.now().submit('rolled', {}, { once: 'r1' });
    expect(again.duplicate).toBe(false);
  });

  it('refuses a submit outside a transaction', () => {
    const biz = suite.create({ outside: bizType(any) });
    expect(() => biz.in(suite.db.knex as never)).toThrow(NotInTransactionError);
  });

  it('retries a throwing handler on its schedule, keeps every attempt, then is FAILED', async () => {
    const biz = suite.create({ throwing: bizType(any, { retry: steps(1, 1) }) });
    biz.handle('throwing', () => {
      throw Object.assign(new Error('downstream said \0 no'), { code: 'E_DOWN' });
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('throwing', {});
    const row = await until(ended(id));
    expect(row).toMatchObject({ status: 'FAILED', cnt: 3, starts: 3, dead_reason: 'exhausted' });
    expect(JSON.parse(row.last_failed_reason)).toEqual({ name: 'Error', code: 'E_DOWN', message: 'downstream said \uFFFD no' });
    const found = await biz.inspect().get(id);
    expect(found?.attempts).toHaveLength(3);
    expect(await biz.redrive(id, { actor: 'test', reason: 'again' })).toBe(true);
    await until(ended(id));
    expect(await suite.db.knex('holdfast_audit').where({ subject: id })).toHaveLength(1);
  });

  it('never tries again what is rejected, or thrown as not retryable', async () => {
    const biz = suite.create({ rejecting: bizType(any) });
    biz.handle('rejecting', (context, run) => {
      if (context.throw) throw Object.assign(new Error('bad card'), { retryable: false });
      return run.reject('closed account');
    });
    await using worker = biz.worker();
    await worker.start();
    const ids = [await biz.now().submit('rejecting', {}), await biz.now().submit('rejecting', { throw: true })];
    for (const { id } of ids) expect(await until(ended(id))).toMatchObject({ status: 'FAILED', starts: 1, dead_reason: 'rejected' });
  });

  it('fails a context that does not fit its schema, and runs its neighbours', async () => {
    const fits = schemaOf<{ n: number }>((value) => (typeof (value as { n?: unknown }).n === 'number' ? undefined : 'must be a number'));
    const biz = suite.create({ checked: bizType(fits) });
    biz.handle('checked', () => undefined);
    await expect(biz.now().submit('checked', { n: 'x' } as never)).rejects.toThrow('field: must be a number');
    const t = suite.db.knex('compensate_biz');
    await t.clone().insert({ biz_type: 'checked', biz_id: 'bad', context: '{"n":"x"}' });
    await t.clone().insert({ biz_type: 'checked', biz_id: 'broken', context: '{' });
    const good = await biz.now().submit('checked', { n: 1 });
    await using worker = biz.worker();
    await worker.start();
    expect(await until(ended(good.id))).toMatchObject({ status: 'SUCCESS' });
    const bad = await until(async () => {
      const rows = await suite.db.knex('compensate_biz').where({ biz_type: 'checked', status: 'FAILED' });
      return rows.length === 2 ? rows : undefined;
    });
    for (const row of bad) expect(row.dead_reason).toBe('rejected');
  });

  it('commits effects, follow-ups and SUCCESS together', async () => {
    await suite.db.knex.schema.createTable('grants', (t) => {
      t.string('member').primary();
    });
    const biz = suite.create({ grant: bizType(any), notify: bizType(any) });
    const notified: unknown[] = [];
    biz.handle('grant', (context, run) => {
      run.submit('notify', { member: context.member });
      return run.commit((trx) => trx('grants').insert({ member: context.member }));
    });
    biz.handle('notify', (context) => {
      notified.push(context.member);
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('grant', { member: 'm1' });
    expect(await until(ended(id))).toMatchObject({ status: 'SUCCESS' });
    await until(() => notified.length === 1);
    expect(await suite.db.knex('grants').select()).toHaveLength(1);
    expect(notified).toEqual(['m1']);
  });

  it('rolls effects back when the row was cancelled meanwhile, and tells the handler by its signal', async () => {
    const biz = suite.create({ cancelled: bizType(any) });
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.string('of').primary();
    });
    let refused: unknown;
    let started = false;
    biz.handle('cancelled', async (_context, run) => {
      started = true;
      await new Promise((resolve) => run.signal.addEventListener('abort', resolve, { once: true }));
      try {
        return await run.commit((trx) => trx('effects').insert({ of: run.id }));
      } catch (error) {
        refused = error;
        throw error;
      }
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('cancelled', {});
    await until(() => started);
    await suite.db.knex.transaction(async (trx) => {
      expect(await biz.in(trx).cancel({ id })).toBe(true);
    });
    await until(() => refused);
    expect(LeaseLostError.is(refused, 'lease-lost')).toBe(true);
    expect(await suite.db.knex('effects').select()).toEqual([]);
    expect(await suite.db.knex('compensate_biz').where({ id }).first()).toMatchObject({ status: 'CANCELLED' });
  });

  it('runs rows of one bizId one at a time, in id order, also across retries', async () => {
    const biz = suite.create({ serial: bizType(any, { serial: true, concurrency: 20, retry: every(1).upTo(3) }) });
    const running = new Map<string, number>();
    const order: Record<string, number[]> = { a: [], b: [], c: [] };
    let overlap = 0;
    biz.handle('serial', async (context, run) => {
      const key = run.bizId ?? '';
      if ((running.get(key) ?? 0) > 0) overlap += 1;
      running.set(key, 1);
      await new Promise((resolve) => setImmediate(resolve));
      running.set(key, 0);
      if (context.n === 3 && run.attempt === 1) return run.retry();
      order[key]?.push(context.n as number);
    });
    await Promise.all(
      ['a', 'b', 'c'].map(async (bizId) => {
        for (let n = 0; n < 8; n++) await biz.now().submit('serial', { n }, { bizId });
      }),
    );
    await using worker = biz.worker();
    await worker.start();
    await until(async () => Object.values(order).every((list) => list.length === 8));
    expect(overlap).toBe(0);
    for (const list of Object.values(order)) expect(list).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('makes 50 submits with one once key one row', async () => {
    const biz = suite.create({ single: bizType(any) });
    const all = await Promise.all(Array.from({ length: 50 }, () => biz.now().submit('single', {}, { once: 'k' })));
    expect(new Set(all.map((one) => one.id)).size).toBe(1);
    expect(all.filter((one) => !one.duplicate)).toHaveLength(1);
    expect(await biz.list({ kind: 'single' })).toHaveLength(1);
  });

  it('completes a fan-out with exact counts and then submits what follows', async () => {
    const biz = suite.create({ child: bizType(any, { keep: 'none', retry: steps(), concurrency: 4 }), after: bizType(any) });
    let after = 0;
    biz.handleBatch('child', { size: 50 }, async (items, batch) => {
      for (const item of items) if (Number(item.context.n) % 100 === 0) batch.reject(item, 'every hundredth');
      await batch.commit(async () => undefined);
    });
    biz.handle('after', () => {
      after += 1;
    });
    async function* members() {
      for (let n = 1; n <= 1000; n++) yield { n };
    }
    async function* dying() {
      for (let n = 1; n <= 700; n++) yield { n };
      throw new Error('source broke');
    }
    const options = { key: 'campaign', chunk: 100, onComplete: { type: 'after' as const, context: {} } };
    await expect(biz.fanOut('child', dying(), options)).rejects.toThrow('source broke');
    await using worker = biz.worker();
    await worker.start();
    const { parentId, total } = await biz.fanOut('child', members(), options);
    expect(total).toBe(1000);
    const parent = await until(ended(parentId));
    expect(JSON.parse(parent.context)).toEqual({ total: 1000, done: 990, failed: 10, cancelled: 0 });
    await until(() => after === 1);
    expect(await biz.fanOut('child', members(), options)).toEqual({ parentId, total: 1000 });
  });

  it('completes a fan-out also when the last settle takes long to commit', async () => {
    const biz = suite.create({ slow: bizType(any, { retry: steps() }) });
    biz.handle('slow', (_context, run) => run.reject('no'));
    const { parentId } = await biz.fanOut('slow', [{ n: 1 }], { key: 'slow commit' });
    const { database } = biz;
    const transaction = database.transaction.bind(database);
    database.transaction = (fn) =>
      transaction(async (sql) => {
        const result = await fn(sql);
        await wait(200);
        return result;
      });
    await using worker = biz.worker();
    await worker.start();
    expect((await until(ended(parentId))).status).toBe('SUCCESS');
  });

  it('claims what classic code inserts, and rescues what it left PROCESSING', async () => {
    const biz = suite.create({ classic: bizType(any) });
    biz.handle('classic', () => undefined);
    const t = suite.db.knex('compensate_biz');
    await t.clone().insert({ biz_id: '1', biz_type: 'classic', context: '{}', status: 'WAIT_HANDLE', cnt: 0, priority: null });
    await t.clone().insert({ biz_id: '2', biz_type: 'classic', context: '{}', status: 'PROCESSING', cnt: 0 });
    await using worker = biz.worker({ adoptIdleFor: 50, lease: '1s' });
    await worker.start();
    await until(async () => (await t.clone().where({ biz_type: 'classic', status: 'SUCCESS' })).length === 2);
  });

  it('stops trying behind an open breaker, probes, and goes on', async () => {
    const biz = suite.create({ fragile: bizType(any, { concurrency: 1, retry: every(1), breaker: { failures: 3, openMs: 300 } }) });
    let healthy = false;
    let calls = 0;
    biz.handle('fragile', () => {
      calls += 1;
      if (!healthy) throw new Error('down');
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('fragile', {});
    await until(async () => (await suite.db.knex('holdfast_breaker').where({ name: 'fragile' }).first())?.state === 'open');
    const before = calls;
    healthy = true;
    const row = await until(ended(id));
    expect(row.status).toBe('SUCCESS');
    expect(calls - before).toBeLessThanOrEqual(2);
  });

  it('snoozes without counting an attempt, and gives unfinished rows back at stop', async () => {
    const biz = suite.create({ sleepy: bizType(any), held: bizType(any, { concurrency: 1 }) });
    let first = true;
    biz.handle('sleepy', (_context, run) => {
      if (!first) return;
      first = false;
      return run.snooze(20);
    });
    biz.handle(
      'held',
      (_context, run) => new Promise((_, reject) => run.signal.addEventListener('abort', () => reject(run.signal.reason))),
    );
    const worker = biz.worker({ stopTimeout: 10 });
    await worker.start();
    const { id } = await biz.now().submit('sleepy', {});
    expect(await until(ended(id))).toMatchObject({ cnt: 0, starts: 2 });
    const held = await biz.now().submit('held', {});
    await until(async () => (await suite.db.knex('compensate_biz').where({ id: held.id }).first()).status === 'PROCESSING');
    await worker.stop();
    expect((await suite.db.knex('compensate_biz').where({ id: held.id }).first()).status).not.toBe('PROCESSING');
  });
});
