import { type ClaimedRow, every, HoldfastError, silentLogger, type Verdict } from '@holdfast/core';
import fc from 'fast-check';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { Inspection } from '../src/operate/inspect.ts';
import { Registry } from '../src/registry.ts';
import { createFanOut } from '../src/submit/fan-out.ts';
import { RowSubmitter } from '../src/submit/submitter.ts';
import { rescueOnce, sweepOnce } from '../src/worker/sweep.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const leaseMs = 1_000;
const maxLost = 3;
const kinds = ['plain', 'serial', 'capped'] as const;
type Kind = (typeof kinds)[number];
const error = { name: 'E', message: 'no' };
const by = { actor: 'test', reason: 'test' };
const endStates = ['SUCCESS', 'FAILED', 'CANCELLED'];
const verdicts: Readonly<Record<string, Verdict>> = {
  done: { outcome: 'done' },
  'retry at once': { outcome: 'retry', afterMs: 0, error },
  'retry later': { outcome: 'retry', afterMs: 700, error },
  reject: { outcome: 'dead', reason: 'rejected', error },
  exhaust: { outcome: 'dead', reason: 'exhausted', error },
  snooze: { outcome: 'snooze', afterMs: 300 },
  release: { outcome: 'release' },
  cancel: { outcome: 'cancel', error },
};

/** The steps that a worker, a caller or an operator can take on a row. */
const actions = [
  'claim',
  ...Object.keys(verdicts),
  'let the lease expire',
  'renew',
  'promote',
  'cancel a row',
  'reschedule soon',
  'reschedule far',
  'redrive',
  'pause',
  'resume',
] as const;
type Action = (typeof actions)[number];

onEveryDatabase('every row ends', (suite) => {
  let registry: Registry;
  let submitter: RowSubmitter;
  let inspection: Inspection;
  let held: ClaimedRow[] = [];
  const t = () => suite.db.knex('compensate_biz');

  beforeAll(async () => {
    const types = {
      plain: bizType(any, { retry: every(1), maxLost }),
      serial: bizType(any, { retry: every(1), serial: true, maxLost }),
      capped: bizType(any, { retry: every(1), globalConcurrency: 2, maxLost }),
    };
    registry = new Registry({ knex: suite.db.knex, types, logger: silentLogger });
    submitter = new RowSubmitter(registry);
    inspection = new Inspection(registry);
    await registry.database.describe();
    await registry.caps.ensure(kinds);
    return () => registry.close();
  });
  afterEach(async () => {
    await t().delete();
    for (const table of ['compensate_biz_attempt', 'compensate_biz_fan_out', 'compensate_biz_fan_out_count', 'holdfast_gate'])
      await suite.db.knex(table).delete();
    await suite.db.knex('holdfast_slot').update({ holder: null });
    held = [];
    registry.database.clockOffsetMs = 0;
  });

  const submit = (kind: Kind, delay = 0) =>
    submitter.now().submit(kind, {}, { bizId: 'b', tenant: 'ten', ...(delay > 0 ? { delay } : {}) });

  async function claim(kind: Kind, limit: number): Promise<readonly ClaimedRow[]> {
    const query = { kind, group: 'ten', limit, owner: 'w', leaseMs };
    const cap = registry.caps.cap(kind);
    const fresh = await registry.table.claim(query, cap);
    return [...fresh, ...(await registry.table.claim({ ...query, lost: { from: 1, to: 2 ** 31 - 1 } }, cap))];
  }

  const settle = (rows: readonly ClaimedRow[], verdict: Verdict) => {
    const settlements = rows.map((row) => ({ row, verdict, keep: true }));
    return registry.table.settle(
      settlements,
      registry.effects.hook(settlements, 'w', () => undefined),
    );
  };

  async function act(action: Action, kind: Kind, row: string | undefined): Promise<void> {
    const verdict = verdicts[action];
    if (verdict) {
      const settled = held.shift();
      if (settled) await settle([settled], verdict);
    } else if (action === 'claim') held.push(...(await claim(kind, 1)));
    else if (action === 'renew')
      await registry.table.renew(
        held.map(({ id }) => id),
        'w',
        leaseMs,
      );
    else if (action === 'let the lease expire') {
      registry.database.clockOffsetMs += leaseMs + 1;
      await sweepOnce(registry);
    } else if (action === 'promote') await registry.table.promote();
    else if (action === 'pause' || action === 'resume') await inspection.actions[action](kind, by);
    else if (row === undefined) return;
    else if (action === 'redrive') await inspection.actions.redrive(row, by).catch(ifCancelledFanOut);
    else
      await suite.db.knex.transaction(async (trx) => {
        if (action === 'cancel a row') await submitter.in(trx).cancel({ id: row });
        else await submitter.in(trx).reschedule({ id: row }, action === 'reschedule soon' ? '100ms' : '1h');
      });
  }

  /** Lets the lease of the running row expire, and takes the row back, as the loop of a worker does between sweeps. */
  async function lose(): Promise<void> {
    registry.database.clockOffsetMs += leaseMs + 1;
    await rescueOnce(registry, 600_000);
  }

  const ifCancelledFanOut = (error: unknown): void => {
    if (!HoldfastError.is(error, 'fan-out-cancelled')) throw error;
  };

  /** Makes a fan-out of two plain rows. With `dies`, the process that makes it dies before the second. Returns the id of its row. */
  async function fanOut(key: string, dies = false): Promise<string> {
    function* source() {
      yield { key, n: 1 };
      if (dies) throw new Error('the process dies');
      yield { key, n: 2 };
    }
    const onComplete = { type: 'plain', context: { after: key }, options: { tenant: 'ten' } };
    await createFanOut(registry, 'plain', source(), { key, chunk: 1, tenant: 'ten', onComplete }).catch((error: unknown) => {
      if (!dies) ifCancelledFanOut(error);
    });
    return String((await t().where({ biz_type: 'fan-out', biz_id: key }).first('id')).id);
  }

  /** Each fan-out has ended with all its children, and was followed by what it submits if, and only if, it completed. */
  async function expectFanOutsToHaveEnded(): Promise<void> {
    for (const { id, biz_id: key, status } of await t().where({ biz_type: 'fan-out' })) {
      const following = await t().where({ context: JSON.stringify({ after: key }) });
      expect([key, status, following.length]).toEqual([key, status, status === 'SUCCESS' ? 1 : 0]);
      expect(await suite.db.knex('compensate_biz_fan_out').where({ parent_id: id }).first()).toMatchObject({
        total: expect.anything(),
        cancelled: status === 'CANCELLED' ? 1 : 0,
        cancel_after: null,
      });
    }
    expect(await suite.db.knex('compensate_biz_fan_out_count')).toEqual([]);
  }

  /** Lets time pass for a worker whose every run succeeds, until all rows have ended. */
  async function expectAllToEnd(): Promise<void> {
    for (let round = 0; round < 5; round++) {
      registry.database.clockOffsetMs += 4_000_000;
      await sweepOnce(registry);
      for (const kind of kinds)
        for (let rows = await claim(kind, 100); rows.length > 0; rows = await claim(kind, 100))
          // All at once, as a worker settles the rows that end together.
          await settle(rows, { outcome: 'done' });
      if ((await t().whereNotIn('status', endStates)).length === 0) break;
    }
    expect(await t().whereNotIn('status', endStates).select('biz_type', 'status', 'lost', 'run_at')).toEqual([]);
    expect(await suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
    expect(await suite.db.knex('holdfast_gate').whereNotNull('head')).toEqual([]);
  }

  it('runs a row that its worker left behind, and that is then rescheduled, when its time has come', async () => {
    const { id } = await submit('plain');
    await act('claim', 'plain', id);
    await act('let the lease expire', 'plain', id);
    await act('reschedule soon', 'plain', id);
    expect(await t().where({ id }).first()).toMatchObject({ status: 'SCHEDULED', lost: 1 });
    expect(await registry.table.nextDueMs()).toBeLessThanOrEqual(100);
    registry.database.clockOffsetMs += 101;
    expect(await registry.table.promote()).toBe(1);
    // It is still a suspect: it runs as those do.
    const [row] = await claim('plain', 1);
    expect(row).toMatchObject({ id, lost: 1 });
  });

  /** Ways into each state, also with a start that was lost. A sweep in each of them would be half of all statements of this file. */
  const ways: Readonly<Record<string, readonly (Action | 'lose')[]>> = {
    READY: [],
    'READY as a suspect': ['claim', 'lose'],
    'READY as a suspect for the last time': ['claim', 'lose', 'claim', 'lose'],
    RUNNING: ['claim'],
    'RUNNING as a suspect': ['claim', 'lose', 'claim'],
    SCHEDULED: ['claim', 'retry later'],
    'SCHEDULED as a suspect': ['claim', 'lose', 'reschedule soon'],
    DONE: ['claim', 'done'],
    DEAD: ['claim', 'reject'],
    'DEAD by a crash loop': ['claim', 'lose', 'claim', 'lose', 'claim', 'lose'],
    CANCELLED: ['cancel a row'],
    'CANCELLED as it ran': ['claim', 'cancel a row'],
    'CANCELLED as a suspect': ['claim', 'lose', 'cancel a row'],
  };
  it.each(Object.keys(ways))('ends after any action on a row that is %s, with the rows behind it', async (state) => {
    for (const kind of kinds)
      for (const action of actions) {
        const { id } = await submit(kind);
        await submit(kind);
        for (const step of ways[state] ?? []) await (step === 'lose' ? lose() : act(step, kind, id));
        await act(action, kind, id);
        held = [];
      }
    await expectAllToEnd();
  });

  /** Ways into each state of a fan-out. */
  const fanOutWays: Readonly<Record<string, readonly (Action | 'produce' | 'produce in part' | 'cancel by hand' | 'sweep')[]>> = {
    'half written': ['produce in part'],
    'half written, with a child that runs': ['produce in part', 'claim'],
    'half written, with its only child done': ['produce in part', 'claim', 'done'],
    written: ['produce'],
    'written, with a child that runs': ['produce', 'claim'],
    'written, with a child that failed': ['produce', 'claim', 'reject'],
    'written, with children that are done': ['produce', 'claim', 'done', 'claim', 'done'],
    DONE: ['produce', 'claim', 'done', 'claim', 'done', 'sweep'],
    'CANCELLED half written': ['produce in part', 'cancel a row'],
    CANCELLED: ['produce', 'cancel a row'],
    'CANCELLED, with a child that ran': ['produce', 'claim', 'cancel a row'],
    'CANCELLED, with a child that is done': ['produce', 'claim', 'done', 'cancel a row'],
    'CANCELLED by hand': ['produce', 'cancel by hand'],
    'CANCELLED by hand, half written': ['produce in part', 'cancel by hand'],
  };
  it.each(Object.keys(fanOutWays))('ends after any action on a fan-out that is %s, with its children', async (state) => {
    const keys: string[] = [];
    for (const action of [...actions, 'cancel a child', 'redrive a child', 'produce'] as const) {
      const key = `${state}: ${action}`;
      keys.push(key);
      let id = '';
      for (const step of fanOutWays[state] ?? []) {
        if (step === 'produce' || step === 'produce in part') id = await fanOut(key, step === 'produce in part');
        else if (step === 'cancel by hand') await t().where({ id }).update({ status: 'CANCELLED' });
        else if (step === 'sweep') await sweepOnce(registry);
        else await act(step, 'plain', id);
      }
      const child = String((await t().where({ parent_id: id }).first('id'))?.id ?? id);
      if (action === 'produce') await fanOut(key);
      else if (action === 'cancel a child') await act('cancel a row', 'plain', child);
      else if (action === 'redrive a child') await act('redrive', 'plain', child);
      else await act(action, 'plain', id);
      held = [];
      // The rows of this fan-out alone are to be claimed for the next one.
      await t()
        .where({ status: 'WAIT_HANDLE' })
        .update({ status: 'SCHEDULED', run_at: registry.database.clockOffsetMs + 9e12 });
    }
    await t().where({ status: 'SCHEDULED' }).update({ run_at: 0 });
    for (const key of keys) await fanOut(key);
    await expectAllToEnd();
    await sweepOnce(registry);
    await expectFanOutsToHaveEnded();
  });

  it('ends whatever was done to it, in any order', async () => {
    const step = fc.record({
      kind: fc.constantFrom(...kinds),
      action: fc.oneof(
        { arbitrary: fc.constantFrom(...actions), weight: 3 },
        { arbitrary: fc.constantFrom('claim' as const, 'let the lease expire' as const), weight: 1 },
      ),
      row: fc.nat(5),
    });
    let made = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
        for (const table of ['compensate_biz', 'compensate_biz_fan_out', 'compensate_biz_fan_out_count'])
          await suite.db.knex(table).delete();
        held = [];
        const ids: Record<Kind, string[]> = { plain: [], serial: [], capped: [] };
        for (const kind of kinds) for (const delay of [0, 0, 500]) ids[kind].push((await submit(kind, delay)).id);
        made += 1;
        const parent = await fanOut(`random ${made}`);
        ids.plain.push(parent, ...(await t().where({ parent_id: parent })).map(({ id }) => String(id)));
        for (const { kind, action, row } of steps) await act(action, kind, ids[kind][row % ids[kind].length]);
        const running = await t().where({ biz_type: 'serial', status: 'PROCESSING' });
        expect(running.length).toBeLessThanOrEqual(1);
        await expectAllToEnd();
        await sweepOnce(registry);
        await expectFanOutsToHaveEnded();
      }),
      { numRuns: 12 },
    );
  });
});
