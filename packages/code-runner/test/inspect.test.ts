import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { localSandbox } from '../src/sandbox/index.ts';
import { alice, eventsOf, onEveryDatabase, runToEnd, submit } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);
const by = { actor: 'ops', reason: 'the machine is needed' };

onEveryDatabase('inspecting runs', (suite) => {
  it('counts runs by pool, language and status, and lists them by id, in pages', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), pools: { fast: {}, slow: { slots: 1 } } });
    const inspection = runner.inspect();
    expect(await inspection.stats()).toEqual([]);
    const waiting = await submit(runner, 'print(1)', { pool: 'slow', remarks: 'later' });
    await runner.worker({ pools: ['fast'] }).start();
    const { run: good } = await runToEnd(runner, 'print(1)');
    const { run: bad } = await runToEnd(runner, 'import sys; sys.exit(3)');
    const counts = { language: 'python', count: 1 };
    expect(await inspection.stats()).toEqual([
      { pool: 'fast', ...counts, status: 'FINISHED', oldestMs: null },
      { pool: 'fast', ...counts, status: 'FAILED', oldestMs: null },
      { pool: 'slow', ...counts, status: 'QUEUED', oldestMs: expect.any(Number) },
    ]);
    const idsOf = async (query: Parameters<typeof inspection.list>[0]) => (await inspection.list(query)).map(({ id }) => id);
    expect(await idsOf({})).toEqual([waiting.id, good.id, bad.id]);
    expect(await idsOf({ limit: 1, after: waiting.id })).toEqual([good.id]);
    expect(await idsOf({ kind: 'slow' })).toEqual([waiting.id]);
    expect(await inspection.list({ status: 'FAILED' })).toMatchObject([
      { id: bad.id, task_id: bad.taskId, actor: 'alice', pool: 'fast', phase: 'terminal', reason: 'EXIT_NONZERO', ended_at: bad.endedAt },
    ]);
  });

  it('shows one run with the changes of its state, whether its log is packed or not', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), pools: { shown: {} } });
    const queued = await submit(runner, 'print(1)', { remarks: 'mine' });
    const inspection = runner.inspect();
    const phases = async () => (await inspection.get(queued.id))?.attempts.map((event) => event.type === 'state' && event.phase);
    expect(await inspection.get(queued.id)).toMatchObject({ status: 'QUEUED', remarks: 'mine', limits: { cpus: 1 } });
    expect(await phases()).toEqual(['queued']);
    await runner.worker().start();
    await eventsOf(runner, queued.id);
    const all = ['queued', 'claimed', 'starting', 'running', 'collecting', 'terminal'];
    expect(await phases()).toEqual(all);
    await expect.poll(async () => Number((await suite.db.knex('runner_run').where({ id: queued.id }))[0].log_packed)).toBe(1);
    expect(await phases()).toEqual(all);
    expect(await inspection.get('999999999')).toBeUndefined();
  });

  it('stops a queued run at once and a running one by its worker, each once, with an audit', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), pools: { work: {}, idle: {} } });
    const { stop } = runner.inspect().actions;
    const queued = await submit(runner, 'print(1)', { pool: 'idle' });
    expect(await stop(queued.id, by)).toBe(1);
    expect(await runner.runs.get(queued.id, alice)).toMatchObject({ state: 5, stoppedBy: 'ops' });
    const long = await submit(runner, 'import time; print("up", flush=True); time.sleep(60)');
    await runner.worker({ pools: ['work'], grace: 300 }).start();
    for await (const event of runner.runs.events(long.id, { ...alice, signal: AbortSignal.timeout(20_000) }))
      if (event.type === 'log') break;
    expect(await stop(long.id, by)).toBe(1);
    expect(await stop(long.id, by)).toBe(0);
    expect((await eventsOf(runner, long.id)).at(-1)).toMatchObject({ phase: 'terminal', state: 5 });
    expect(await stop(long.id, by)).toBe(0);
    expect(await stop('999999999', by)).toBe(0);
    const audits = await suite.db.knex('holdfast_audit').orderBy('id').select('actor', 'action', 'subject', 'reason');
    expect(audits).toEqual([queued, long].map(({ id }) => ({ actor: 'ops', action: 'code-runner:stop', subject: id, reason: by.reason })));
  });

  it('refuses what is not valid, with the values that are', async () => {
    const inspection = suite.runner().inspect();
    await expect(inspection.list({ status: 'LOST' })).rejects.toThrow(/give one of QUEUED, RUNNING, FINISHED, FAILED, TERMINATED/);
    await expect(inspection.list({ limit: 0 })).rejects.toThrow(/limit is 0; give a whole number from 1 to 1,000/);
    await expect(inspection.list({ after: 'x' })).rejects.toThrow(/after is "x"; give the id of a run/);
    await expect(inspection.get("1'")).rejects.toThrow(/id is "1'"; give the id of a run/);
    await expect(inspection.actions.stop('1', { actor: 'ops', reason: '' })).rejects.toThrow(/who does it and why/);
  });
});
