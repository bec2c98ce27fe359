import { every, silentLogger, wait } from '@holdfast/core';
import { startStopStress, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bizType, type Hint } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any, schemaOf } from './suite-schema.ts';

onEveryDatabase('features', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const many = (n: number) => Array.from({ length: n }, (_, i) => ({ i }));

  it('keeps a type within its global concurrency over several workers, whatever becomes of its rows', async () => {
    const types = { capped: bizType(any, { concurrency: 10, globalConcurrency: 3, retry: every(1).upTo(3) }) };
    let running = 0;
    let most = 0;
    const workers = [suite.create(types), suite.create(types), suite.create(types)].map((biz) => {
      biz.handle('capped', async (context, run) => {
        running += 1;
        most = Math.max(most, running);
        await wait(5);
        running -= 1;
        if (Number(context.i) % 4 === 0 && run.attempt === 1) throw new Error('again');
        if (Number(context.i) % 5 === 0) return run.reject('no');
        if (Number(context.i) % 3 === 0) return run.commit(async () => undefined);
        return undefined;
      });
      return { biz, worker: biz.worker() };
    });
    await workers[0]?.biz.now().submitMany('capped', many(60));
    for (const { worker } of workers) await worker.start();
    await until(async () => (await t().where({ biz_type: 'capped' }).whereIn('status', ['SUCCESS', 'FAILED'])).length === 60);
    for (const { worker } of workers) await worker.stop();
    expect(most).toBe(3);
    expect(await suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
  });

  it('frees the slot of a row that was cancelled while it ran, once its lease is over', async () => {
    const biz = suite.create({ slotted: bizType(any, { globalConcurrency: 1 }) });
    let seen = 0;
    biz.handle('slotted', (_context, run) => {
      seen += 1;
      if (seen > 1) return undefined;
      return new Promise((_, reject) => run.signal.addEventListener('abort', () => reject(run.signal.reason)));
    });
    await using worker = biz.worker({ lease: '500ms' });
    await worker.start();
    const { id } = await biz.now().submit('slotted', {});
    await until(() => seen === 1);
    await biz.now().submit('slotted', {});
    await suite.db.knex.transaction((trx) => biz.in(trx).cancel({ id }));
    await until(() => seen === 2);
  });

  it('goes on when listeners, hints and the logger of the service fail, at once or later', async () => {
    const fails = [
      () => {
        throw new Error('mine');
      },
      () => Promise.reject(new Error('mine')),
    ];
    for (const fail of fails) {
      const biz = suite.create(
        { guarded: bizType(any, { retry: every(1).upTo(2) }) },
        {
          logger: { debug: fail, info: fail, warn: fail, error: fail },
          hints: { send: fail, listen: () => () => undefined },
          waker: { reliable: false, wake: fail, listen: () => () => undefined, close: async () => undefined },
        },
      );
      for (const name of ['task:succeeded', 'task:retried', 'task:dead'] as const) biz.events.on(name, fail);
      biz.handle('guarded', ({ i }) => {
        if (i !== 0) throw new Error('no');
      });
      const ids = [(await biz.now().submit('guarded', { i: 0 })).id, ...(await biz.now().submitMany('guarded', [{ i: 1 }]))];
      await suite.db.knex.transaction(async (trx) => ids.push((await biz.in(trx).submit('guarded', { i: 0 })).id));
      await using worker = biz.worker();
      await worker.start();
      await until(async () => (await t().whereIn('id', ids).whereIn('status', ['SUCCESS', 'FAILED'])).length === 3);
    }
  });

  it('refuses functions that return a promise where nothing waits for them', async () => {
    const biz = suite.create({ asked: bizType(any) });
    const later = () => Promise.reject(new Error('mine')) as never;
    await expect(biz.now().submitMany('asked', many(2), later)).rejects.toThrow(/options returned a promise/);
    await expect(biz.fanOut('asked', many(2), { key: 'asked', childKey: later })).rejects.toThrow(/childKey returned a promise/);
    expect(await t().where({ biz_type: 'asked' })).toEqual([]);
  });

  it('runs a row by its hint, and takes a hint for what somebody else has as done', async () => {
    let deliver: (hints: readonly Hint[]) => void = () => undefined;
    const sent: Hint[] = [];
    const hints = {
      send: (some: readonly Hint[]) => void sent.push(...some),
      listen: (listener: typeof deliver) => {
        deliver = listener;
        return () => undefined;
      },
    };
    const biz = suite.create({ hinted: bizType(any) }, { hints });
    const ran: string[] = [];
    biz.handle('hinted', (_context, run) => void ran.push(run.id));
    const worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('hinted', {});
    await until(() => ran.length === 1);
    expect(sent).toEqual([{ type: 'hinted', id }]);
    // Rolled back: no hint.
    await suite.db.knex
      .transaction(async (trx) => {
        await biz.in(trx).submit('hinted', {});
        throw new Error('no');
      })
      .catch(() => undefined);
    expect(sent).toHaveLength(1);
    // Behind our back, as by another process; only the hint tells.
    await t().insert({ biz_type: 'hinted', context: '{}' });
    const [{ id: silent }] = await t().where({ biz_type: 'hinted', status: 'WAIT_HANDLE' }).select('id');
    deliver([
      { type: 'hinted', id: String(silent) },
      { type: 'hinted', id },
      { type: 'hinted', id: '999999999' },
      { type: 'unknown', id: '1' },
    ]);
    await until(() => ran.length === 2);
    await worker.stop();
    expect(ran).toEqual([id, String(silent)]);
  });

  it('aborts a run at its timeout, and counts it as failed', async () => {
    const biz = suite.create({ slow: bizType(any, { timeout: 30, retry: every(1).upTo(1) }) });
    let aborted: unknown;
    biz.handle('slow', async (_context, run) => {
      await new Promise<void>((resolve) => run.signal.addEventListener('abort', () => resolve()));
      aborted = run.signal.reason;
      await wait(20);
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('slow', {});
    const row = await until(async () => (await t().where({ id, status: 'FAILED' }))[0]);
    expect(JSON.parse(row.last_failed_reason)).toMatchObject({ code: 'handler-timeout' });
    expect(aborted).toMatchObject({ code: 'handler-timeout' });
  });

  it('lifts older versions of a context, and leaves newer ones to workers that know them', async () => {
    const v1 = suite.create({ evolved: bizType(any) });
    const v3 = suite.create({
      evolved: bizType(
        schemaOf<{ c?: number }>((value) => ((value as { c?: number }).c === undefined ? 'c is missing' : undefined)),
        { version: 3, upcast: { 1: (old: { a: number }) => ({ b: old.a + 1 }), 2: (old: { b: number }) => ({ c: old.b * 10 }) } },
      ),
    });
    const seen: unknown[] = [];
    v3.handle('evolved', (context) => void seen.push(context));
    await v1.now().submit('evolved', { a: 1 });
    await using worker = v3.worker();
    await worker.start();
    await until(() => seen.length === 1);
    expect(seen).toEqual([{ c: 20 }]);
    await worker.stop();
    let ranOld = false;
    const unknown: unknown[] = [];
    v1.events.on('sweep:unknown', (event) => void unknown.push(event));
    v1.handle('evolved', () => {
      ranOld = true;
    });
    const { id } = await v3.now().submit('evolved', { c: 5 });
    await using old = v1.worker();
    await old.start();
    const row = await until(async () => (await t().where({ id, status: 'SCHEDULED' }))[0]);
    expect(row.cnt).toBe(0);
    expect(ranOld).toBe(false);
    // The worker's own first sweep may have told already.
    await v1.sweep();
    expect(unknown).toContainEqual({ type: 'evolved', count: 1 });
  });

  it('keeps a once key for its window, or for as long as its row is pending', async () => {
    const biz = suite.create({ single: bizType(any) });
    const windowed = { once: { key: 'w', window: '1h' } } as const;
    const first = await biz.now().submit('single', {}, windowed);
    expect(await biz.now().submit('single', {}, windowed)).toEqual({ id: first.id, duplicate: true });
    biz.database.clockOffsetMs = 3_700_000;
    expect((await biz.now().submit('single', {}, windowed)).duplicate).toBe(false);
    biz.database.clockOffsetMs = 0;
    const pending = { once: { key: 'p', while: 'pending' } } as const;
    const one = await biz.now().submit('single', {}, pending);
    expect((await biz.now().submit('single', {}, pending)).duplicate).toBe(true);
    await t().where({ id: one.id }).update({ status: 'SUCCESS' });
    expect((await biz.now().submit('single', {}, pending)).duplicate).toBe(false);
  });

  it('writes another row under the once key of a row that was cancelled, and no third', async () => {
    const biz = suite.create({ moved: bizType(any) });
    for (const once of ['c', { key: 'd', window: '1h' }] as const) {
      const { id } = await biz.now().submit('moved', {}, { once, delay: '1h' });
      expect(await biz.now().submit('moved', {}, { once, delay: '1h' })).toEqual({ id, duplicate: true });
      const next = await suite.db.knex.transaction(async (trx) => {
        expect(await biz.in(trx).cancel({ id })).toBe(true);
        return biz.in(trx).submit('moved', {}, { once, delay: '1h' });
      });
      expect(next).toMatchObject({ duplicate: false });
      expect(next.id).not.toBe(id);
      expect(await biz.now().submit('moved', {}, { once, delay: '1h' })).toEqual({ id: next.id, duplicate: true });
    }
  });

  it("reschedules and cancels by id or once key, in the caller's transaction", async () => {
    const biz = suite.create({ moved: bizType(any) });
    const { id } = await biz.now().submit('moved', {}, { once: 'm', delay: '1h' });
    const due = async () => Number((await t().where({ id }))[0].run_at) - (await biz.database.now());
    await suite.db.knex.transaction((trx) => biz.in(trx).reschedule({ type: 'moved', once: 'm' }, '2h'));
    expect(await due()).toBeGreaterThan(7_100_000);
    await suite.db.knex
      .transaction(async (trx) => {
        expect(await biz.in(trx).cancel({ id })).toBe(true);
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    expect((await t().where({ id }))[0].status).toBe('SCHEDULED');
    await suite.db.knex.transaction(async (trx) => {
      expect(await biz.in(trx).cancel({ type: 'moved', once: 'm' })).toBe(true);
      expect(await biz.in(trx).cancel({ id })).toBe(false);
      expect(await biz.in(trx).reschedule({ id }, '1s')).toBe(false);
    });
    expect((await t().where({ id }))[0].status).toBe('CANCELLED');
  });

  it('shows rows with their attempts, and writes down who did what to them', async () => {
    const biz = suite.create({ watched: bizType(any, { retry: every(1).upTo(2) }) });
    let broken = true;
    biz.handle('watched', () => {
      if (broken) throw new Error('down');
    });
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('watched', {}, { bizId: 'b-1' });
    await until(async () => (await t().where({ id, status: 'FAILED' })).length === 1);
    const inspect = biz.inspect();
    expect(await inspect.stats()).toContainEqual({ type: 'watched', status: 'FAILED', count: 1 });
    expect(await inspect.list({ kind: 'watched' })).toMatchObject([{ id, status: 'FAILED' }]);
    expect(await inspect.list({ kind: 'watched', after: id })).toEqual([]);
    const row = await inspect.get(id);
    expect(row?.attempts).toMatchObject([{ number: 1 }, { number: 2 }]);
    const by = { actor: 'ann', reason: 'mended' };
    await inspect.actions.pause('watched', by);
    broken = false;
    expect(await biz.redrive(id, by)).toBe(true);
    await wait(1_200);
    await inspect.actions.resume('watched', by);
    await until(async () => (await t().where({ id, status: 'SUCCESS' })).length === 1);
    expect(await biz.redrive(id, by)).toBe(false);
    expect(
      (await suite.db.knex('holdfast_audit').orderBy('id').select('actor', 'action', 'subject')).map((entry) =>
        Object.values(entry).join(' '),
      ),
    ).toEqual(['ann compensate-biz:pause watched', `ann compensate-biz:redrive ${id}`, 'ann compensate-biz:resume watched']);
    await expect(inspect.actions.redrive(id, { actor: '', reason: '' })).rejects.toThrow(/actor/);
  });

  it('takes options of each row of many', async () => {
    const biz = suite.create({ optioned: bizType(any) });
    await biz.now().submitMany('optioned', [{ n: 1 }, { n: 2 }], ({ n }) => ({ bizId: `b-${n}`, priority: Number(n) }));
    expect((await t().where({ biz_type: 'optioned' }).orderBy('biz_id')).map((row) => [row.biz_id, Number(row.priority)])).toEqual([
      ['b-1', 1],
      ['b-2', 2],
    ]);
    await expect(biz.now().submitMany('optioned', [{ n: 1 }], { once: 'x' } as never)).rejects.toThrow('once is the key of one row');
  });

  it('starts no more in a period than its rate allows', async () => {
    const biz = suite.create({ rated: bizType(any, { concurrency: 50, rate: { limit: 10, per: '500ms' } }) });
    const starts: number[] = [];
    biz.handle('rated', () => void starts.push(performance.now()));
    await biz.now().submitMany('rated', many(25));
    await using worker = biz.worker();
    await worker.start();
    await until(() => starts.length === 25);
    expect((starts.at(-1) ?? 0) - (starts[0] ?? 0)).toBeGreaterThan(500);
  });

  it('lives on when its breaker can not be asked, and goes on when it can', async () => {
    let unasked = 0;
    const debug = (_fields: object, message: string) => {
      if (message.startsWith('the admission check failed')) unasked += 1;
    };
    const biz = suite.create({ guarded: bizType(any, { breaker: { failures: 3 } }) }, { logger: { ...silentLogger, debug } });
    biz.handle('guarded', () => undefined);
    await suite.db.knex.schema.renameTable('holdfast_breaker', 'holdfast_breaker_away');
    await using worker = biz.worker();
    await worker.start();
    const { id } = await biz.now().submit('guarded', {});
    await until(() => unasked > 1);
    await suite.db.knex.schema.renameTable('holdfast_breaker_away', 'holdfast_breaker');
    await until(async () => (await t().where({ id, status: 'SUCCESS' })).length === 1);
  });

  it('closes its breaker when the probe succeeds by run.commit, or by batch.commit', async () => {
    const breaker = { failures: 2, openMs: 100 };
    const biz = suite.create({
      one: bizType(any, { concurrency: 1, retry: every(1), breaker }),
      many: bizType(any, { concurrency: 1, retry: every(1), breaker }),
    });
    const failures = { one: 3, many: 3 };
    biz.handle('one', (_context, run) => {
      if (failures.one-- > 0) throw new Error('down');
      return run.commit(async () => undefined);
    });
    biz.handleBatch('many', { size: 1 }, async (_items, batch) => {
      if (failures.many-- > 0) throw new Error('down');
      await batch.commit(async () => undefined);
    });
    const state = async () =>
      (await suite.db.knex('holdfast_breaker').whereIn('name', ['one', 'many']).orderBy('name')).map((row) => row.state);
    await biz.now().submit('one', {});
    await biz.now().submit('many', {});
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().whereIn('biz_type', ['one', 'many']).where({ status: 'SUCCESS' })).length === 2);
    await until(async () => (await state()).join() === 'closed,closed');
  });

  it.each(['return', 'commit', 'batch'] as const)('stays closed for failures that are not in a row (%s)', async (how) => {
    const type = `now-and-then-${how}`;
    const biz = suite.create({
      [type]: bizType(any, { concurrency: 1, retry: every(1).upTo(1), breaker: { failures: 3, openMs: 60_000 } }),
    });
    const fails = (context: Record<string, unknown>) => Number(context.i) % 3 < 2;
    if (how === 'batch')
      biz.handleBatch(type, { size: 1 }, async ([item], batch) => {
        if (item && fails(item.context)) throw new Error('down');
        await batch.commit(async () => undefined);
      });
    else
      biz.handle(type, (context, run) => {
        if (fails(context)) throw new Error('down');
        return how === 'commit' ? run.commit(async () => undefined) : undefined;
      });
    await using worker = biz.worker();
    await worker.start();
    // One by one, since outcomes that are settled together are in no order.
    for (const context of many(18)) {
      const { id } = await biz.now().submit(type, context);
      await until(async () => (await t().where({ id }).whereIn('status', ['SUCCESS', 'FAILED'])).length === 1);
    }
    const [row] = await suite.db.knex('holdfast_breaker').where({ name: type });
    expect(row.state).toBe('closed');
  });

  it('gives a probe to the next row when there was none to probe with', async () => {
    const biz = suite.create({
      probed: bizType(any, { retry: every(1).upTo(1), breaker: { failures: 1, openMs: 60_000 }, globalConcurrency: 1 }),
    });
    let healthy = false;
    biz.handle('probed', () => {
      if (!healthy) throw new Error('down');
    });
    await using worker = biz.worker();
    await worker.start();
    await biz.now().submit('probed', {});
    const breaker = () => suite.db.knex('holdfast_breaker').where({ name: 'probed' });
    await until(async () => (await breaker().first())?.state === 'open');
    await worker.stop();
    // The slot is taken, so that a probe finds no row. (Its holder is not a row; the repair is not running yet.)
    const slot = () => suite.db.knex('holdfast_slot').where({ scope: 'compensate-biz:probed' });
    const [other] = await t()
      .insert({ biz_type: 'elsewhere', status: 'PROCESSING', context: '{}', lease_until: 9e15 })
      .returning('id')
      .catch(() => []);
    const holder = other?.id ?? (await t().where({ biz_type: 'elsewhere' }).first()).id;
    await slot().update({ holder: String(holder) });
    healthy = true;
    await breaker().update({ until_ms: 0 });
    const { id } = await biz.now().submit('probed', {});
    await using next = biz.worker();
    await next.start();
    await until(async () => Number((await breaker().first()).until_ms) > 0);
    await slot().update({ holder: null });
    await until(async () => (await t().where({ id, status: 'SUCCESS' })).length === 1);
  });

  it('runs rows of a globally capped type as fast when each run commits them itself', async () => {
    const capped = bizType(any, { concurrency: 10, globalConcurrency: 2 });
    const biz = suite.create({ plain: capped, committed: capped });
    biz.handle('plain', () => undefined);
    biz.handle('committed', (_context, run) => run.commit(async () => undefined));
    await using worker = biz.worker();
    await worker.start();
    const timed = async (type: 'plain' | 'committed') => {
      const started = performance.now();
      await biz.now().submitMany(type, many(40));
      await until(async () => (await t().where({ biz_type: type, status: 'SUCCESS' })).length === 40);
      return performance.now() - started;
    };
    const plain = await timed('plain');
    // Where nobody wakes the worker when a slot is free, each pair of rows waits for a poll: 2 s in all.
    expect(await timed('committed')).toBeLessThan(1_000 + 4 * plain);
  });

  it('sweeps a type at its own pace, and says what it did', async () => {
    const lines: string[] = [];
    const logger = {
      ...silentLogger,
      info: (fields: object, message: string) => void lines.push(`${message} ${(fields as { types?: string[] }).types}`),
    };
    const biz = suite.create({ often: bizType(any, { sweep: 50 }), seldom: bizType(any) }, { logger });
    biz.handle('often', () => undefined);
    await using worker = biz.worker({ sweep: { cron: '0 0 1 1 *' } });
    await worker.start();
    await until(() => lines.filter((line) => line === 'sweep ends often').length >= 3);
    expect(lines.filter((line) => line === 'sweep ends seldom').length).toBeLessThanOrEqual(1);
  });

  it('gives each row of a batch its own verdict, and calls again, by halves, for those that a throw leaves without', async () => {
    const biz = suite.create({ batched: bizType(any, { concurrency: 1, retry: every(1).upTo(1) }) });
    let calls = 0;
    biz.handleBatch('batched', { size: 10 }, async (items, batch) => {
      calls += 1;
      const [first] = items;
      if (first) batch.reject(first, 'first of its batch');
      if (calls === 2) throw new Error('second batch');
      await batch.commit(async () => undefined);
    });
    await biz.now().submitMany('batched', many(20));
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ biz_type: 'batched' }).whereIn('status', ['SUCCESS', 'FAILED'])).length === 20);
    const reasons = await t().where({ biz_type: 'batched', status: 'FAILED' }).select('dead_reason');
    expect(reasons.map((row) => row.dead_reason)).toEqual(Array(4).fill('rejected'));
    expect(calls).toBe(4);
  });

  it('survives the start/stop stress with rows under way, and loses none', async () => {
    const biz = suite.create({ stressed: bizType(any, { concurrency: 4 }) });
    biz.handle('stressed', () => wait(1));
    await biz.now().submitMany('stressed', many(100));
    await startStopStress(biz.worker({ stopTimeout: '5s' }), { callers: 5, cycles: 10 });
    expect(await t().where({ biz_type: 'stressed', status: 'PROCESSING' })).toEqual([]);
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ biz_type: 'stressed', status: 'SUCCESS' })).length === 100);
    expect(await t().where({ biz_type: 'stressed' }).where('cnt', '>', 0)).toEqual([]);
  });

  it('writes each of many submits once, and all or none of a submitMany, beside a row that the database refuses', async () => {
    const biz = suite.create({ joined: bizType(any) });
    const refuse =
      suite.db.name === 'sqlite'
        ? "CREATE TRIGGER refuse BEFORE INSERT ON compensate_biz WHEN NEW.biz_id = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        : "ALTER TABLE compensate_biz ADD CONSTRAINT refuse CHECK (biz_id IS NULL OR biz_id <> 'refused')";
    await suite.db.knex.raw(refuse);
    // More than one statement takes on SQLite, with the refused row in the second.
    const bizIds = Array.from({ length: 15 }, (_, i) => (i === 12 ? 'refused' : `joined-${i}`));
    const submitted = await Promise.allSettled(bizIds.map((bizId) => biz.now().submit('joined', {}, { bizId })));
    expect(submitted.filter(({ status }) => status === 'fulfilled')).toHaveLength(14);
    expect(await t().where({ biz_type: 'joined' })).toHaveLength(14);
    await t().where({ biz_type: 'joined' }).delete();
    const many = biz.now().submitMany(
      'joined',
      bizIds.map((name) => ({ name })),
      ({ name }) => ({ bizId: String(name) }),
    );
    await expect(many).rejects.toThrow();
    expect(await t().where({ biz_type: 'joined' })).toEqual([]);
  });

  it('refuses to list a status that no row has', async () => {
    const biz = suite.create({ listed: bizType(any) });
    await expect(biz.list({ status: 'FINISHED' })).rejects.toThrow(/status is "FINISHED"; give one of WAIT_HANDLE, /);
  });
});
