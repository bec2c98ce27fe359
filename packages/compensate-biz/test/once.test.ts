import { every, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType, type SubmitOptions, type Submitted } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('once', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const rowsOf = (type: string) => t().where({ biz_type: type }).orderBy('id');
  const ended = (id: string) => async () => (await t().where({ id }).whereIn('status', ['SUCCESS', 'FAILED', 'CANCELLED']))[0];

  it('holds on every way by which a row is submitted', async () => {
    const biz = suite.create({ source: bizType(any, { concurrency: 1 }), part: bizType(any), welcome: bizType(any, { serial: true }) });
    const options: SubmitOptions = { once: 'welcome:42', bizId: '42', delay: '1h', priority: 3, tenant: 'x', subject: 's' };
    biz.handle('source', (context, run) => {
      run.submit('welcome', {}, options);
      run.submit('welcome', {}, options);
      return context.commit ? run.commit(() => undefined) : undefined;
    });
    biz.handle('part', () => undefined);
    await using worker = biz.worker();
    await worker.start();
    const sources = await biz.now().submitMany('source', [{ commit: true }, {}, { commit: true }]);
    for (const id of sources) expect((await until(ended(id))).status).toBe('SUCCESS');
    expect(await rowsOf('welcome')).toMatchObject([{ biz_id: '42', status: 'SCHEDULED', tenant: 'x', subject: 's', gate: '42' }]);
    const [{ id }] = await rowsOf('welcome').select('id');
    const earlier = { id: String(id), duplicate: true };
    expect(await biz.now().submit('welcome', {}, options)).toEqual(earlier);
    expect(await suite.db.knex.transaction((trx) => biz.in(trx).submit('welcome', {}, options))).toEqual(earlier);
    expect(await biz.now().submitMany('welcome', [{}, {}], () => options)).toEqual([earlier.id, earlier.id]);
    const many = await suite.db.knex.transaction((trx) => biz.in(trx).submitMany('welcome', [{}], () => options));
    expect(many).toEqual([earlier.id]);
    const onComplete = { type: 'welcome', context: {}, options } as const;
    const { parentId } = await biz.fanOut('part', [{}], { key: 'once', onComplete });
    await until(ended(parentId));
    expect(await rowsOf('welcome')).toHaveLength(1);
  });

  it('refuses a key that is none before anything is written, and fails the run that submits it', async () => {
    const biz = suite.create({ wrong: bizType(any), wrongSource: bizType(any, { retry: every(1).upTo(1) }) });
    for (const once of [
      42,
      null,
      {},
      { key: '' },
      { key: 'k', while: 'running' },
      { key: 'k', window: '1h', while: 'pending' },
      { key: 'k', replace: 1 },
      { key: 'k', window: 'x' },
    ])
      await expect(biz.now().submit('wrong', {}, { once } as never)).rejects.toThrow(/once/);
    biz.handle('wrongSource', (_context, run) => run.submit('wrong', {}, { once: '' }));
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('wrongSource', {});
    expect(await until(ended(id))).toMatchObject({ status: 'FAILED' });
    expect(await rowsOf('wrong')).toEqual([]);
  });

  it('takes a key per row of many, also of rows that others submit at the same time', async () => {
    const biz = suite.create({ keyed: bizType(any) });
    const contexts = Array.from({ length: 2500 }, (_, n) => ({ n: n % 2000 }));
    const own = ({ n }: { n?: unknown }): SubmitOptions => (n === 7 ? {} : { once: `k'?${n}` });
    const sets = await Promise.all([1, 2, 3].map(() => biz.now().submitMany('keyed', contexts, own as never)));
    expect(await rowsOf('keyed')).toHaveLength(1999 + 2 * 3);
    for (const ids of sets) {
      expect(ids).toHaveLength(2500);
      expect(ids[0]).toBe(ids[2000]);
    }
    expect(new Set(sets.map((ids) => ids[1999])).size).toBe(1);
    const rows = await t()
      .whereIn('id', [sets[0]?.[1999] ?? '', sets[1]?.[30] ?? ''])
      .orderBy('id');
    expect(rows.map((row) => JSON.parse(row.context)).sort((a, b) => a.n - b.n)).toEqual([{ n: 30 }, { n: 1999 }]);
    const kept = await biz.now().submitMany('keyed', [{ n: 1 }, { n: 'new' }], ({ n }) => ({ once: { key: `k'?${n}`, while: 'pending' } }));
    expect(kept[0]).toBe(sets[0]?.[1]);
    await t().where({ id: kept[0] }).update({ status: 'SUCCESS' });
    const again = await biz.now().submitMany('keyed', [{ n: 1 }], ({ n }) => ({ once: { key: `k'?${n}`, while: 'pending' } }));
    expect(again[0]).not.toBe(kept[0]);
  });

  it('replaces context and time of a row that has not started, and says when it did not', async () => {
    const biz = suite.create({ debounced: bizType(any) });
    const submit = (n: number, more: SubmitOptions = {}) =>
      biz.now().submit('debounced', { n }, { once: { key: 'd', while: 'pending', replace: true }, ...more });
    const first = await submit(1, { delay: '1h' });
    expect(first).toEqual({ id: first.id, duplicate: false });
    const replaced: Submitted = { id: first.id, duplicate: true, earlier: 'replaced' };
    expect(await submit(2, { delay: '2h' })).toEqual(replaced);
    const [row] = await rowsOf('debounced');
    expect(row).toMatchObject({ status: 'SCHEDULED', context: '{"n":2}' });
    expect(Number(row.run_at) - (await biz.database.now())).toBeGreaterThan(7_100_000);
    // Many in one call: the last one counts.
    await suite.db.knex.transaction((trx) =>
      biz
        .in(trx)
        .submitMany('debounced', [{ n: 3 }, { n: 4 }], () => ({ delay: '3h', once: { key: 'd', while: 'pending', replace: true } })),
    );
    expect((await rowsOf('debounced')).map((one) => one.context)).toEqual(['{"n":4}']);
    const seen: unknown[] = [];
    let go: () => void = () => undefined;
    biz.handle('debounced', async ({ n }) => {
      seen.push(n);
      await new Promise<void>((resolve) => (go = resolve));
    });
    await using worker = biz.worker();
    await worker.start();
    expect(await submit(5)).toEqual(replaced);
    await until(() => seen.length === 1);
    expect(await submit(6)).toEqual({ id: first.id, duplicate: true, earlier: 'running' });
    go();
    await until(ended(first.id));
    const windowed = await biz.now().submit('debounced', { n: 7 }, { once: { key: 'w', replace: true } });
    await until(() => seen.length === 2);
    go();
    await until(ended(windowed.id));
    expect(await biz.now().submit('debounced', { n: 8 }, { once: { key: 'w', replace: true } })).toEqual({
      id: windowed.id,
      duplicate: true,
      earlier: 'ended',
    });
    expect(seen).toEqual([5, 7]);
  });

  it('replaces a row that waits for its turn, which it keeps', async () => {
    const biz = suite.create({ queued: bizType(any, { serial: true }) });
    const seen: unknown[] = [];
    const release: (() => void)[] = [];
    biz.handle('queued', async ({ n }) => {
      seen.push(n);
      await new Promise<void>((resolve) => release.push(resolve));
    });
    await using worker = biz.worker();
    await worker.start();
    await biz.now().submit('queued', { n: 1 }, { bizId: 'b' });
    await until(() => seen.length === 1);
    const once = { key: 'q', replace: true } as const;
    await biz.now().submit('queued', { n: 2 }, { bizId: 'b', once });
    const later = await biz.now().submit('queued', { n: 3 }, { bizId: 'b', once });
    expect(later.earlier).toBe('replaced');
    expect((await t().where({ id: later.id }))[0]).toMatchObject({ status: 'BLOCKED', context: '{"n":3}' });
    release[0]?.();
    await until(() => seen.length === 2);
    release[1]?.();
    await until(ended(later.id));
    expect(seen).toEqual([1, 3]);
  });

  it('holds also between submits that one transaction makes at a time, each of which returns the id of its row', async () => {
    const biz = suite.create({ together: bizType(any) });
    const submitted = await suite.db.knex.transaction((trx) =>
      Promise.all(
        ['a', 'b', 'a', undefined, 'b', 'c'].map((once, n) =>
          n === 2
            ? biz.in(trx).submitMany('together', [{ n }], () => ({ once: 'a' }))
            : biz.in(trx).submit('together', { n }, once === undefined ? {} : { once }),
        ),
      ),
    );
    const ids = submitted.map((one) => ('id' in one ? one.id : String(one[0])));
    expect([ids[2], ids[4]]).toEqual([ids[0], ids[1]]);
    const stored = (await rowsOf('together')).map(({ id, context }) => [String(id), JSON.parse(context).n]);
    expect(stored.sort()).toEqual([0, 1, 3, 5].map((n) => [ids[n], n]).sort());
  });

  it.each([undefined, 'of a serial type'])('is found by many transactions at a time, none of which fails (%s)', async (serial) => {
    const type = `hot ${serial}`;
    const biz = suite.create({ [type]: bizType(any, { serial: serial !== undefined }) });
    const options = serial === undefined ? { once: 'hot', delay: '1h' as const } : { bizId: 'hot', delay: '1h' as const };
    const first = await biz.now().submit(type, {}, options);
    const others = await Promise.all(
      Array.from({ length: 8 }, () => suite.db.knex.transaction((trx) => biz.in(trx).submit(type, {}, options))),
    );
    expect(new Set(others.map(({ id }) => id)).size).toBe(serial === undefined ? 1 : 8);
    if (serial === undefined) expect(others[0]).toEqual({ id: first.id, duplicate: true });
  });

  it('takes the lease of no row that runs while transactions submit its key without a pause', async () => {
    const biz = suite.create({ busy: bizType(any) });
    const lost: string[] = [];
    biz.events.on('task:lease-lost', ({ id }) => void lost.push(id));
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    let signal: AbortSignal | undefined;
    biz.handle('busy', async (_context, run) => {
      signal = run.signal;
      await held;
    });
    await using worker = biz.worker({ lease: 600 });
    await worker.start();
    const options = { once: { key: 'busy', replace: true } };
    const { id } = await biz.now().submit('busy', {}, options);
    await until(() => signal);
    // SQLite has one connection: its transactions do not keep it for long.
    const transactionMs = suite.db.name === 'sqlite' ? 1 : 30;
    // At REPEATABLE READ, MariaDB 11.8 refuses a lock on a row that was renewed meanwhile.
    const isolation = suite.db.name === 'sqlite' ? {} : { isolationLevel: 'read committed' as const };
    try {
      for (const began = performance.now(); performance.now() - began < 1_500; )
        await suite.db.knex.transaction(async (trx) => {
          expect((await biz.in(trx).submit('busy', {}, options)).earlier).toBe('running');
          await wait(transactionMs);
        }, isolation);
      expect(signal?.aborted).toBe(false);
    } finally {
      release();
    }
    await until(ended(id));
    expect(lost).toEqual([]);
  });

  it('promotes a row that lost a start and was rescheduled', async () => {
    const biz = suite.create({ moved: bizType(any) });
    const { id } = await biz.now().submit('moved', {});
    await t().where({ id }).update({ lost: 1 });
    await suite.db.knex.transaction((trx) => biz.in(trx).reschedule({ id }, 1));
    biz.handle('moved', () => undefined);
    await using worker = biz.worker();
    await worker.start();
    await until(ended(id));
  });
});
