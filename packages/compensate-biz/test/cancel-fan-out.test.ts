import { coreSchema, HoldfastError, InvalidArgumentError, migrate, setCheckpointHook, silentLogger, type Verdict } from '@holdfast/core';
import { type TestDatabase, until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { afterEach, expect, it } from 'vitest';
import { type BizTypes, bizType, type CompensateBiz, compensateBizSchema } from '../src/index.ts';
import { cancelChildren } from '../src/operate/cancel.ts';
import { Registry } from '../src/registry.ts';
import { completeParents, createFanOut } from '../src/submit/fan-out.ts';
import { RowSubmitter } from '../src/submit/submitter.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const by = { actor: 'ann', reason: 'the campaign was called off' };
const items = (n: number) => Array.from({ length: n }, (_, i) => ({ i }));
/**
 * A transaction whose locks take rows as they are now, as on MySQL. With MariaDB's `innodb_snapshot_isolation`, the first children are left to the
 * workers: see the test at REPEATABLE READ.
 */
const inTransaction = <T>({ knex, name }: TestDatabase, fn: (trx: Knex.Transaction) => Promise<T>): Promise<T> =>
  knex.transaction(async (trx) => {
    if (name === 'mariadb') {
      const [on] = await trx.raw("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'");
      if (on.length > 0) await trx.raw('SET SESSION innodb_snapshot_isolation = OFF');
    }
    return fn(trx);
  });
const cancelledError = (error: unknown): boolean => HoldfastError.is(error, 'fan-out-cancelled');

onEveryDatabase('a fan-out that is cancelled', (suite) => {
  afterEach(() => setCheckpointHook(undefined));
  const t = () => suite.db.knex('compensate_biz');
  const cancel = <Types extends BizTypes>(biz: CompensateBiz<Types>, id: string | number) =>
    inTransaction(suite.db, (trx) => biz.in(trx).cancel({ id: String(id) }));
  const row = (id: string) => t().where({ id }).first();
  const counts = async (id: string) => JSON.parse((await row(id)).context);
  const statuses = async (parentId: string) => (await t().where({ parent_id: parentId }).orderBy('id')).map(({ status }) => status);
  const closed = (id: string) => async () =>
    (await suite.db.knex('compensate_biz_fan_out').where({ parent_id: id, cancelled: 1 }).whereNull('cancel_after')).length === 1;

  it('makes no child when it is cancelled before the first', async () => {
    const biz = suite.create({ early: bizType(any) });
    async function* source() {
      expect(await inTransaction(suite.db, (trx) => biz.in(trx).cancel({ type: 'fan-out', once: 'early' }))).toBe(true);
      yield* items(3);
    }
    await expect(biz.fanOut('early', source(), { key: 'early' })).rejects.toSatisfy(cancelledError);
    const parent = await t().where({ biz_id: 'early' }).first();
    expect([parent.status, await statuses(parent.id)]).toEqual(['CANCELLED', []]);
    await expect(biz.fanOut('early', items(3), { key: 'early' })).rejects.toThrow(/"early" \(row \d+\) was cancelled.*new key/);
    await biz.sweep();
    expect(await counts(parent.id)).toEqual({ total: 0, done: 0, failed: 0, cancelled: 0 });
    expect(await cancel(biz, parent.id)).toBe(false);
  });

  it.each([false, true])('stops with the chunk in hand when it is cancelled while it is produced, with keys: %s', async (keyed) => {
    const biz = suite.create({ midway: bizType(any) });
    const key = `midway ${keyed}`;
    let [read, left] = [0, false];
    async function* source() {
      try {
        for (const item of items(50)) {
          read += 1;
          yield item;
          if (item.i === 4) await cancel(biz, (await t().where({ biz_id: key }).first()).id);
        }
      } finally {
        left = true;
      }
    }
    const options = { key, chunk: 2, ...(keyed ? { childKey: ({ i }: { i: number }) => `k${i}` } : {}) };
    await expect(biz.fanOut('midway', source() as never, options)).rejects.toSatisfy(cancelledError);
    expect([read, left]).toEqual([6, true]);
    const { id, status } = await t().where({ biz_id: key }).first();
    expect([status, await statuses(id)]).toEqual(['CANCELLED', Array(4).fill('CANCELLED')]);
    await expect(biz.fanOut('midway', items(50) as never, options)).rejects.toSatisfy(cancelledError);
    await biz.sweep();
    expect(await counts(id)).toEqual({ total: 4, done: 0, failed: 0, cancelled: 4 });
  });

  it('is not resumed when the process that made it has died before it was cancelled', async () => {
    const biz = suite.create({ died: bizType(any) });
    async function* dying() {
      yield* items(4);
      throw new Error('the process dies');
    }
    await expect(biz.fanOut('died', dying(), { key: 'died', chunk: 2 })).rejects.toThrow('dies');
    const { id } = await t().where({ biz_id: 'died' }).first();
    expect(await cancel(biz, id)).toBe(true);
    await expect(biz.fanOut('died', items(6), { key: 'died', chunk: 2 })).rejects.toSatisfy(cancelledError);
    expect(await statuses(id)).toEqual(Array(4).fill('CANCELLED'));
  });

  it('cancels the children that wait or run, and no other; those that run get their signals, and what follows is not submitted', async () => {
    const biz = suite.create({ mixed: bizType(any, { concurrency: 4 }), mixedEnd: bizType(any) });
    const refused: unknown[] = [];
    const running = new Set<unknown>();
    biz.handle('mixed', async ({ i }, run) => {
      if (i === 0) return;
      if (i === 1) return run.reject('no');
      if (i === 2) return run.snooze('1h');
      running.add(i);
      if (!run.signal.aborted) await new Promise((resolve) => run.signal.addEventListener('abort', resolve, { once: true }));
      return run
        .commit(() => undefined)
        .catch((error: unknown) => {
          refused.push(error);
          throw error;
        });
    });
    biz.handle('mixedEnd', () => undefined);
    await using worker = biz.worker({ lease: '5m' });
    await worker.start();
    const { parentId } = await biz.fanOut('mixed', items(6), { key: 'mixed', onComplete: { type: 'mixedEnd', context: {} } });
    // Rows may start in another order; the three that do not end leave one place.
    await until(async () => running.size === 3 && (await statuses(parentId)).slice(0, 3).join() === 'SUCCESS,FAILED,SCHEDULED');
    expect((await statuses(parentId)).slice(3)).toEqual(Array(3).fill('PROCESSING'));
    expect(await cancel(biz, parentId)).toBe(true);
    await until(() => refused.length === 3);
    expect(refused.every((error) => HoldfastError.is(error, 'lease-lost'))).toBe(true);
    await until(closed(parentId));
    expect(await statuses(parentId)).toEqual(['SUCCESS', 'FAILED', ...Array(4).fill('CANCELLED')]);
    expect((await row(parentId)).status).toBe('CANCELLED');
    expect(await counts(parentId)).toEqual({ total: 6, done: 1, failed: 1, cancelled: 4 });
    expect(await suite.db.knex('compensate_biz_fan_out_count').where({ parent_id: parentId })).toEqual([]);
    expect(await biz.sweep()).toMatchObject({ completed: 0, cancelled: 0 });
    expect(await t().where({ biz_type: 'mixedEnd' })).toEqual([]);
  });

  it('aborts children that run in another process when their leases are renewed', async () => {
    const types = { afar: bizType(any) };
    const [here, there] = [suite.create(types), suite.create(types)];
    let [started, aborted] = [0, 0];
    there.handle('afar', async (_context, run) => {
      started += 1;
      await new Promise((resolve) => run.signal.addEventListener('abort', resolve, { once: true }));
      aborted += 1;
    });
    await using worker = there.worker({ lease: '1s' });
    await worker.start();
    const { parentId } = await here.fanOut('afar', items(3), { key: 'afar' });
    await until(() => started === 3);
    await cancel(here, parentId);
    await until(() => aborted === 3);
    expect(await statuses(parentId)).toEqual(Array(3).fill('CANCELLED'));
  });

  it('signals a running row that an operator cancels, at once', async () => {
    const biz = suite.create({ operated: bizType(any) });
    let [started, aborted] = [0, 0];
    biz.handle('operated', async (_context, run) => {
      started += 1;
      await new Promise((resolve) => run.signal.addEventListener('abort', resolve, { once: true }));
      aborted += 1;
    });
    await using worker = biz.worker({ lease: '5m' });
    await worker.start();
    const { parentId } = await biz.fanOut('operated', items(2), { key: 'operated' });
    await until(() => started === 2);
    expect(await biz.inspect().actions.cancel(parentId, by)).toBe(1);
    await until(() => aborted === 2);
    const [record] = await suite.db.knex('holdfast_audit').where({ action: 'compensate-biz:cancel', subject: parentId });
    expect(record).toMatchObject(by);
  });

  it('cancels a large one in chunks; when the process that does it dies, the next sweep goes on where it stopped', async () => {
    const types = { large: bizType(any) };
    const [first, second] = [suite.create(types), suite.create(types)];
    // Ends the fan-outs of other tests: their chunks would be counted, too.
    await second.sweep();
    const { parentId } = await first.fanOut('large', items(2_500), { key: 'large' });
    const count = async () => Number((await t().where({ parent_id: parentId, status: 'CANCELLED' }).count({ n: '*' }))[0]?.n);
    await cancel(first, parentId);
    expect(await count()).toBe(1_000);
    let chunks = 0;
    setCheckpointHook((name) => {
      if (name === 'fan-out:after-cancel-chunk' && ++chunks === 2) throw new Error('the process dies');
    });
    await expect(first.sweep()).rejects.toThrow('dies');
    setCheckpointHook(undefined);
    expect(await count()).toBe(2_000);
    expect(await second.sweep()).toMatchObject({ cancelled: 500, completed: 0 });
    expect(await counts(parentId)).toEqual({ total: 2_500, done: 0, failed: 0, cancelled: 2_500 });
    expect(await second.sweep()).toMatchObject({ cancelled: 0 });
  });

  it('is cancelled to its end by a worker of another process, without a sweep', async () => {
    const types = { distant: bizType(any), other: bizType(any) };
    const [here, there] = [suite.create(types), suite.create(types)];
    const { parentId } = await here.fanOut('distant', items(1_200), { key: 'distant' });
    there.handle('other', () => undefined);
    await using worker = there.worker({ sweep: '1d' });
    await worker.start();
    await cancel(here, parentId);
    await until(closed(parentId));
    expect(await counts(parentId)).toMatchObject({ total: 1_200, cancelled: 1_200 });
  });

  it('is cancelled with its children when other code has set its row CANCELLED', async () => {
    const biz = suite.create({ byHand: bizType(any) });
    const { parentId } = await biz.fanOut('byHand', items(3), { key: 'by hand' });
    await t().where({ id: parentId }).update({ status: 'CANCELLED' });
    expect(await biz.sweep()).toMatchObject({ cancelled: 3 });
    expect(await statuses(parentId)).toEqual(Array(3).fill('CANCELLED'));
    await expect(biz.fanOut('byHand', items(3), { key: 'by hand' })).rejects.toSatisfy(cancelledError);
  });

  it('cancels the fan-outs that belong to it, and none can be added then', async () => {
    const biz = suite.create({ outer: bizType(any), inner: bizType(any), leaf: bizType(any) });
    const inner: string[] = [];
    let block: (() => void) | undefined;
    let late: unknown;
    biz.handle('outer', async ({ i }, run) => {
      const options = { key: run.idempotencyKey, partOf: run.parentId };
      if (i === 2) {
        await new Promise<void>((resolve) => (block = resolve));
        return biz.fanOut('inner', items(1), options).catch((error: unknown) => {
          late = error;
        });
      }
      inner.push((await biz.fanOut('inner', items(2), options)).parentId);
      return undefined;
    });
    biz.handle('inner', async (_context, run) => {
      inner.push((await biz.fanOut('leaf', items(2), { key: run.idempotencyKey, partOf: run.parentId })).parentId);
    });
    await using worker = biz.worker();
    await worker.start();
    const { parentId } = await biz.fanOut('outer', items(3), { key: 'outer' });
    // Two of `inner`, each with two of `leaf`.
    await until(() => inner.length === 6 && block !== undefined);
    expect(await cancel(biz, parentId)).toBe(true);
    block?.();
    await until(() => late);
    expect(late).toSatisfy(cancelledError);
    // Also where a fan-out of `inner`, between the two, has completed.
    const leaves = (where: object) => t().where({ biz_type: 'leaf', ...where });
    await until(async () => (await leaves({ status: 'CANCELLED' })).length === 8);
    expect(await leaves({})).toHaveLength(8);
    expect(await t().whereIn('id', inner).whereNotIn('status', ['CANCELLED', 'SUCCESS'])).toEqual([]);
    await expect(biz.fanOut('leaf', items(1), { key: 'nowhere', partOf: '999999' })).rejects.toThrow(/no fan-out with this id/);
  });

  it('refuses to be redriven; its children may be', async () => {
    const biz = suite.create({ again: bizType(any), againEnd: bizType(any) });
    const onComplete = { type: 'againEnd' as const, context: {} };
    const { parentId } = await biz.fanOut('again', items(3), { key: 'again', onComplete });
    await cancel(biz, parentId);
    await biz.sweep();
    await expect(biz.redrive(parentId, by)).rejects.toSatisfy(cancelledError);
    expect(await biz.inspect().mayRedrive(parentId)).toBe(false);
    await expect(biz.redrive({ type: 'fan-out' as never, status: 'CANCELLED' }, { ...by })).rejects.toThrow(InvalidArgumentError);
    await t().whereNot({ parent_id: parentId }).orWhereNull('parent_id').whereNot({ id: parentId }).delete();
    expect(await biz.redrive({ status: 'CANCELLED' }, { dryRun: true })).toMatchObject({ matched: 3 });
    expect(await biz.redrive({ status: 'CANCELLED' }, { ...by })).toMatchObject({ matched: 3, changed: 3 });
    biz.handle('again', () => undefined);
    await using worker = biz.worker();
    await worker.start();
    await until(async () => (await t().where({ parent_id: parentId, status: 'SUCCESS' })).length === 3);
    await biz.sweep();
    expect(await biz.sweep()).toMatchObject({ cancelled: 0, completed: 0 });
    expect((await row(parentId)).status).toBe('CANCELLED');
    expect(await t().where({ biz_type: 'againEnd' })).toEqual([]);
    expect(await suite.db.knex('compensate_biz_fan_out_count').where({ parent_id: parentId })).toEqual([]);
  });

  it('is deleted after 30 days, and its key still says that it was cancelled', async () => {
    const biz = suite.create({ old: bizType(any) });
    const { parentId } = await biz.fanOut('old', items(1), { key: 'old' });
    await cancel(biz, parentId);
    await biz.sweep();
    expect(await row(parentId)).toBeDefined();
    biz.database.clockOffsetMs = 31 * 86_400_000;
    try {
      await biz.sweep();
    } finally {
      biz.database.clockOffsetMs = 0;
    }
    expect(await row(parentId)).toBeUndefined();
    await expect(biz.fanOut('old', items(1), { key: 'old' })).rejects.toSatisfy(cancelledError);
  });
});

onEveryDatabase('a fan-out that is cancelled as its last child ends', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const verdict: Verdict = { outcome: 'done' };

  /** A fan-out with one child that a worker holds. */
  async function held(key: string) {
    const registry = new Registry({ knex: suite.db.knex, types: { last: bizType(any), end: bizType(any) }, logger: silentLogger });
    await registry.database.describe();
    const submitter = new RowSubmitter(registry);
    const { parentId } = await createFanOut(registry, 'last', [{}], { key, onComplete: { type: 'end', context: { key } } });
    const [child] = await registry.table.claim({ kind: 'last', group: '', limit: 1, owner: 'w', leaseMs: 60_000 });
    if (!child) throw new Error('the child is there');
    const settlements = [{ row: child, verdict, keep: true }];
    return {
      registry,
      parentId,
      settle: () =>
        registry.table.settle(
          settlements,
          registry.effects.hook(settlements, 'w', () => undefined),
        ),
      cancel: () => inTransaction(suite.db, (trx) => submitter.in(trx).cancel({ id: parentId })),
      complete: () => completeParents(registry, [parentId]),
      ends: async () => ({
        parent: (await t().where({ id: parentId }).first()).status,
        child: (await t().where({ id: child.id }).first()).status,
        after: (await t().where({ biz_type: 'end', context: JSON.stringify({ key }) })).length,
      }),
    };
  }

  it('does not complete when the child has ended and the parent is cancelled before its completion', async () => {
    const { registry, settle, cancel, complete, ends, parentId } = await held('settled');
    expect((await settle()).size).toBe(1);
    expect(await cancel()).toBe(true);
    expect(await complete()).toEqual([]);
    while ((await cancelChildren(registry)).chunks > 0);
    expect(await ends()).toEqual({ parent: 'CANCELLED', child: 'SUCCESS', after: 0 });
    expect(JSON.parse((await t().where({ id: parentId }).first()).context)).toEqual({ total: 1, done: 1, failed: 0, cancelled: 0 });
    await registry.close();
  });

  it('does not complete when the child ends after the cancel: the verdict is refused', async () => {
    const { registry, settle, cancel, complete, ends } = await held('refused');
    expect(await cancel()).toBe(true);
    expect((await settle()).size).toBe(0);
    expect(await complete()).toEqual([]);
    expect(await ends()).toEqual({ parent: 'CANCELLED', child: 'CANCELLED', after: 0 });
    await registry.close();
  });

  it('is not cancelled when it has completed', async () => {
    const { registry, settle, cancel, complete, ends, parentId } = await held('completed');
    await settle();
    expect(await complete()).toEqual([parentId]);
    expect(await cancel()).toBe(false);
    expect(await ends()).toEqual({ parent: 'SUCCESS', child: 'SUCCESS', after: 1 });
    await registry.close();
  });

  it('ends once, whichever comes first', async () => {
    const seen = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const { registry, settle, cancel, complete, ends } = await held(`race ${round}`);
      // Of three rounds, one races the settle, and two the completion.
      if (round % 3 > 0) await settle();
      const [cancelled] = await Promise.all(
        round % 2 === 0 ? [cancel(), settle().then(complete)] : [complete().then(cancel), settle().then(complete)],
      );
      await complete();
      while ((await cancelChildren(registry)).chunks > 0);
      const { parent, child, after } = await ends();
      expect([parent, after]).toEqual(cancelled ? ['CANCELLED', 0] : ['SUCCESS', 1]);
      expect(['SUCCESS', 'CANCELLED']).toContain(child);
      seen.add(parent);
      await registry.close();
    }
    expect(seen.size).toBeGreaterThan(0);
  });
});

onEveryDatabase(
  'a fan-out that is cancelled while a child is locked',
  (suite) => {
    it('does not wait for the child, and takes it as it then is', async () => {
      const biz = suite.create({ locked: bizType(any) });
      const t = () => suite.db.knex('compensate_biz');
      const { parentId } = await biz.fanOut('locked', items(3), { key: 'locked' });
      const children = await t().where({ parent_id: parentId }).orderBy('id');
      const other = await suite.db.knex.transaction();
      await other('compensate_biz').where({ id: children[0].id }).forUpdate();
      await other('compensate_biz').where({ id: children[1].id }).forUpdate();
      await inTransaction(suite.db, (trx) => biz.in(trx).cancel({ id: parentId }));
      const statuses = async () => (await t().where({ parent_id: parentId }).orderBy('id')).map(({ status }) => status);
      expect(await statuses()).toEqual(['WAIT_HANDLE', 'WAIT_HANDLE', 'CANCELLED']);
      await other('compensate_biz').where({ id: children[0].id }).update({ status: 'SUCCESS' });
      await other.commit();
      expect(await biz.sweep()).toMatchObject({ cancelled: 1 });
      expect(await statuses()).toEqual(['SUCCESS', 'CANCELLED', 'CANCELLED']);
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

onEveryDatabase(
  'a fan-out that is cancelled at REPEATABLE READ',
  (suite) => {
    it('does not conflict with the runs of its children', async () => {
      const biz = suite.create({ busy: bizType(any) });
      const t = () => suite.db.knex('compensate_biz');
      const { parentId } = await biz.fanOut('busy', items(3), { key: 'busy' });
      await suite.db.knex.transaction(
        async (trx) => {
          await trx('compensate_biz').first();
          await t().where({ parent_id: parentId }).update({ status: 'PROCESSING', version: 1 });
          expect(await biz.in(trx).cancel({ id: parentId })).toBe(true);
        },
        { isolationLevel: 'repeatable read' },
      );
      await biz.sweep();
      expect(await t().where({ parent_id: parentId, status: 'CANCELLED' })).toHaveLength(3);
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

onEveryDatabase('a table of the version before fan-outs could be cancelled', (suite) => {
  it('is migrated, and its fan-outs are cancelled as new ones are', async () => {
    const { knex } = suite.db;
    const biz = suite.create({ older: bizType(any) });
    const { parentId } = await biz.fanOut('older', items(2), { key: 'older' });
    if (suite.db.name === 'mysql' || suite.db.name === 'mariadb')
      await knex.raw('DROP INDEX compensate_biz_fan_out_cancel ON compensate_biz_fan_out');
    else await knex.raw('DROP INDEX compensate_biz_fan_out_cancel');
    await knex.raw('ALTER TABLE compensate_biz_fan_out DROP COLUMN cancelled');
    await knex.raw('ALTER TABLE compensate_biz_fan_out DROP COLUMN cancel_after');
    await knex('holdfast_compensate_biz_migrations').where({ name: '0006_cancel' }).delete();
    expect((await migrate(knex, [coreSchema, compensateBizSchema]))['compensate-biz']).toEqual(['0006_cancel']);
    await inTransaction(suite.db, (trx) => biz.in(trx).cancel({ id: parentId }));
    expect(await knex('compensate_biz').where({ parent_id: parentId, status: 'CANCELLED' })).toHaveLength(2);
  });
});
