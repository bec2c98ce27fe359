import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@holdfast/core';
import { startStopStress, until } from '@holdfast/core/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createExecutor, type Executor, type ExecutorOptions, type JobContext, protocolVersions } from '../src/index.ts';
import { type AdminDouble, adminDouble } from '../src/testing/index.ts';

describe.each(protocolVersions)('the executor with an admin of %s', (version) => {
  let admin: AdminDouble;
  let folder: string;
  const executors: Executor[] = [];
  beforeEach(async () => {
    admin = await adminDouble(version);
    folder = mkdtempSync(join(tmpdir(), 'holdfast-xxl-'));
  });
  afterEach(async () => {
    for (const executor of executors.splice(0)) await executor.stop();
    await admin.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const start = async (handlers: ExecutorOptions['handlers'], options: Partial<ExecutorOptions> = {}): Promise<string> => {
    const executor = createExecutor({
      admins: [admin.url],
      appName: 'holdfast-test',
      accessToken: 'default_token',
      handlers,
      port: 0,
      folder,
      logger: silentLogger,
      // Only an admin of 2.2 can't be recognised.
      ...(version === '2.2' ? { version } : {}),
      ...options,
    });
    executors.push(executor);
    await executor.start();
    return executor.address;
  };
  const ended = (logId: number | string) => until(() => admin.callbacks.find((callback) => callback.logId === String(logId)));
  /** A job that runs until the test finishes or aborts it. */
  const slow = () => {
    const running: { context: JobContext; finish: (result?: unknown) => void }[] = [];
    return {
      running,
      handler: (_param: string, context: JobContext) =>
        new Promise((resolve, reject) => {
          running.push({ context, finish: resolve });
          context.signal.addEventListener('abort', () => reject(context.signal.reason));
        }),
    };
  };

  it('registers, runs a named handler with its parameter, serves its log, and reports its end', async () => {
    const seen: unknown[] = [];
    const executor = await start({
      lotteryOrderMQStateJobHandler: async (param, { log, jobId, logId, shard }) => {
        seen.push([param, jobId, logId, shard]);
        log('database 01, table 000: 3 sent');
        log('two\nlines');
        return 'done: 3';
      },
    });
    await until(() => admin.registered.size === 1);
    expect([...admin.registered.values()]).toEqual([{ registryGroup: 'EXECUTOR', registryKey: 'holdfast-test', registryValue: executor }]);
    expect(await admin.call(executor, 'beat')).toMatchObject({ code: 200 });
    expect(
      await admin.trigger(executor, { jobId: 7, logId: 70, handler: 'lotteryOrderMQStateJobHandler', param: '1,2', shard: [1, 3] }),
    ).toMatchObject({ code: 200 });
    expect(await ended(70)).toEqual({ logId: '70', code: 200, msg: 'done: 3' });
    expect(seen).toEqual([['1,2', '7', '70', [1, 3]]]);
    const log = await admin.log(executor, 70);
    expect(log).toMatchObject({ fromLineNum: 1, toLineNum: 5, isEnd: true });
    expect(log.logContent).toMatch(
      /parameter "1,2", shard 1\/3[\s\S]*database 01, table 000: 3 sent\n[\s\S]*two\n[\s\S]*lines\n[\s\S]*ended with 200/,
    );
    expect(await admin.log(executor, 70, 4)).toMatchObject({ fromLineNum: 4, toLineNum: 5, isEnd: true });
    expect(await admin.log(executor, 71)).toMatchObject({ toLineNum: 0, logContent: '' });
    await executors[0]?.stop();
    expect(admin.registered.size).toBe(0);
    expect(admin.refused).toEqual([]);
  });

  it('keeps ids of 64 bits exact: each run has its own log and its own end', async () => {
    const seen: string[] = [];
    const finish: (() => void)[] = [];
    const executor = await start({
      slow: (param, { logId, log }) => {
        seen.push(logId);
        log(`run ${param}`);
        return new Promise<void>((resolve) => finish.push(resolve));
      },
    });
    const ids = ['1152921504606846977', '1152921504606846978', '9223372036854775807'];
    for (const [i, logId] of ids.entries())
      expect(await admin.trigger(executor, { jobId: `900719925474099${3 + i}`, logId, handler: 'slow', param: String(i) })).toMatchObject({
        code: 200,
      });
    await until(() => finish.length === 3);
    expect(seen).toEqual(ids);
    for (const [i, logId] of ids.entries()) expect((await admin.log(executor, logId)).logContent).toContain(`run ${i}`);
    const raw = (path: string, body: string) =>
      fetch(`${executor}${path}`, { method: 'POST', headers: { 'xxl-job-access-token': 'default_token' }, body }).then((answer) =>
        answer.json(),
      );
    expect(await raw('idleBeat', '{"jobId":9007199254740993}')).toMatchObject({ code: 500 });
    expect(await raw('idleBeat', '{"jobId":9007199254740992}')).toMatchObject({ code: 200 });
    for (const id of ['1.5', '-1', '0', '9223372036854775808', 'null', '"../1"', '[1]', 'true'])
      expect(await raw('log', `{"logId":${id},"fromLineNum":1}`), id).toMatchObject({ code: 500 });
    for (const end of finish) end();
    for (const logId of ids) expect(await ended(logId)).toMatchObject({ code: 200 });
    expect(admin.callbacks).toHaveLength(3);
  });

  it('refuses invalid requests with 500 and the reason', async () => {
    const executor = await start({
      fails: () => {
        throw new Error('no such customer');
      },
    });
    expect(await admin.trigger(executor, { jobId: 1, logId: 1, handler: 'nobody' })).toMatchObject({
      code: 500,
      msg: expect.stringContaining('no job handler "nobody"; known handlers: fails'),
    });
    expect(await admin.trigger(executor, { jobId: 1, logId: 2, handler: 'fails', glueType: 'GLUE_SHELL' })).toMatchObject({
      code: 500,
      msg: expect.stringContaining('scripts'),
    });
    expect(await admin.trigger(executor, { jobId: 0, logId: 2, handler: 'fails' })).toMatchObject({ code: 500 });
    expect(await admin.trigger(executor, { jobId: 1, logId: 3, handler: 'fails' })).toMatchObject({ code: 200 });
    expect(await ended(3)).toMatchObject({ code: 500, msg: 'no such customer' });
    expect((await admin.log(executor, 3)).logContent).toContain('no such customer');
    const post = (headers: Record<string, string>, body: string, path = 'beat') =>
      fetch(`${executor}${path}`, { method: 'POST', headers, body }).then((response) => response.json());
    expect(await post({ 'xxl-job-access-token': 'wrong' }, '{}')).toMatchObject({
      code: 500,
      msg: expect.stringContaining('The access token is wrong.'),
    });
    expect(await post({}, '{}')).toMatchObject({ code: 500 });
    expect(await post({ 'xxl-job-access-token': 'default_token' }, 'no json')).toMatchObject({
      code: 500,
      msg: expect.stringContaining('The body is not valid JSON.'),
    });
    expect(await post({ 'xxl-job-access-token': 'default_token' }, '{}', 'nothing')).toMatchObject({
      code: 500,
      msg: expect.stringContaining('/nothing'),
    });
    expect(await (await fetch(executor)).json()).toMatchObject({ code: 500, msg: expect.stringContaining('POST') });
  });

  it('runs the triggers of a job one after another, refuses them, or ends the earlier ones, by their block strategy', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler });
    const trigger = (logId: number, blockStrategy: 'SERIAL_EXECUTION' | 'DISCARD_LATER' | 'COVER_EARLY') =>
      admin.trigger(executor, { jobId: 1, logId, handler: 'slow', blockStrategy });
    expect(await admin.call(executor, 'idleBeat', { jobId: 1 })).toMatchObject({ code: 200 });
    expect(await trigger(1, 'SERIAL_EXECUTION')).toMatchObject({ code: 200 });
    expect(await trigger(2, 'SERIAL_EXECUTION')).toMatchObject({ code: 200 });
    expect(await trigger(2, 'SERIAL_EXECUTION')).toMatchObject({ code: 500, msg: expect.stringContaining('has not ended yet') });
    expect(await trigger(3, 'DISCARD_LATER')).toMatchObject({ code: 500, msg: expect.stringContaining('Discard Later') });
    expect(await admin.call(executor, 'idleBeat', { jobId: 1 })).toMatchObject({ code: 500 });
    expect(await admin.call(executor, 'idleBeat', { jobId: 2 })).toMatchObject({ code: 200 });
    await until(() => running.length === 1);
    expect((await admin.log(executor, 1)).isEnd).toBe(false);
    running[0]?.finish('one');
    expect(await ended(1)).toMatchObject({ code: 200, msg: 'one' });
    await until(() => running.length === 2);
    await trigger(4, 'SERIAL_EXECUTION');
    expect(await trigger(5, 'COVER_EARLY')).toMatchObject({ code: 200 });
    expect(await ended(2)).toMatchObject({ code: 500, msg: expect.stringContaining('Cover Early') });
    expect(await ended(4)).toMatchObject({ code: 500, msg: expect.stringContaining('Cover Early') });
    await until(() => running.length === 3);
    running[2]?.finish();
    expect(await ended(5)).toMatchObject({ code: 200 });
    // Another job does not wait for this one.
    await trigger(6, 'SERIAL_EXECUTION');
    expect(await admin.trigger(executor, { jobId: 2, logId: 7, handler: 'slow' })).toMatchObject({ code: 200 });
    await until(() => running.length === 5);
  });

  it('ends a job that is killed, and one that exceeds its time-out', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler });
    await admin.trigger(executor, { jobId: 1, logId: 1, handler: 'slow' });
    await admin.trigger(executor, { jobId: 1, logId: 2, handler: 'slow' });
    await until(() => running.length === 1);
    expect(await admin.call(executor, 'kill', { jobId: 1 })).toMatchObject({ code: 200 });
    expect(await ended(1)).toMatchObject({ code: 500, msg: expect.stringContaining('killed') });
    expect(await ended(2)).toMatchObject({ code: 500, msg: expect.stringContaining('killed') });
    await admin.trigger(executor, { jobId: 1, logId: 3, handler: 'slow', timeoutSeconds: 1 });
    expect(await ended(3)).toMatchObject({ code: 502, msg: expect.stringContaining('1 s') });
    expect(await admin.call(executor, 'kill', { jobId: 99 })).toMatchObject({ code: 200 });
  });

  it('does not end a job whose time-out is longer than a timer of Node lasts', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler });
    for (const [i, timeoutSeconds] of [3_000_000, 2_147_484, 2_147_483_647, 4_294_967_296].entries())
      await admin.trigger(executor, { jobId: i + 1, logId: i + 1, handler: 'slow', timeoutSeconds });
    await until(() => running.length === 4);
    // A timer that fired at once would have ended them before this job.
    await admin.trigger(executor, { jobId: 9, logId: 9, handler: 'slow', timeoutSeconds: 1 });
    expect(await ended(9)).toMatchObject({ code: 502 });
    for (const { context } of running.slice(0, 4)) expect(context.signal.aborted).toBe(false);
    for (const one of running) one.finish();
    expect(await ended(1)).toMatchObject({ code: 200 });
  });

  it('gives each instance of a broadcast its index and the total, and refuses a share that there is not', async () => {
    const shares: unknown[] = [];
    const executor = await start({ share: (_param, { shard }) => void shares.push(shard) });
    for (const index of [0, 1, 2])
      expect(await admin.trigger(executor, { jobId: 1, logId: index + 1, handler: 'share', shard: [index, 3] })).toMatchObject({
        code: 200,
      });
    await ended(3);
    expect(shares).toEqual([
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
    for (const shard of [
      [3, 3],
      [-1, 3],
      [0.5, 3],
      [1, 1],
    ] as const)
      expect(await admin.trigger(executor, { jobId: 1, logId: 9, handler: 'share', shard })).toMatchObject({
        code: 500,
        msg: expect.stringContaining('broadcastTotal'),
      });
  });

  it('tells operators what happened, in their time zone, and not the addresses of our pages', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler }, { timeZone: 'Asia/Shanghai' });
    await until(() => admin.registered.size === 1);
    await admin.trigger(executor, { jobId: 1, logId: 1, handler: 'slow' });
    await until(() => running.length === 1);
    running[0]?.context.log('now');
    await admin.call(executor, 'kill', { jobId: 1 });
    expect((await ended(1)).msg).toBe('The job was killed from the admin.');
    const { logContent } = await admin.log(executor, 1);
    const [, shown = ''] = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) now$/m.exec(logContent) ?? [];
    expect(Math.abs(Date.parse(`${shown.replace(' ', 'T')}+08:00`) - Date.now())).toBeLessThan(60_000);
    expect(logContent).not.toContain('holdfast.dev');
    const refused = await admin.trigger(executor, { jobId: 0, logId: 1, handler: 'slow' });
    expect(refused).toMatchObject({ code: 500, msg: expect.stringMatching(/^jobId is "0"; it must be a whole number above 0\.$/) });
  });

  it('takes no job while it stops, and ends those that wait', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler }, { stopTimeout: '20s' });
    await until(() => admin.registered.size === 1);
    await admin.trigger(executor, { jobId: 1, logId: 1, handler: 'slow' });
    await admin.trigger(executor, { jobId: 1, logId: 2, handler: 'slow' });
    await until(() => running.length === 1);
    const stopped = executors[0]?.stop();
    // Refused from the moment of the call, for the job that runs and for others; an admin that fails over chooses another executor.
    for (const [jobId, logId] of [
      [1, 3],
      [2, 4],
    ] as const)
      expect(await admin.trigger(executor, { jobId, logId, handler: 'slow' })).toMatchObject({
        code: 500,
        msg: 'The executor is stopping.',
      });
    expect(await admin.call(executor, 'beat')).toMatchObject({ code: 500 });
    expect(await admin.call(executor, 'idleBeat', { jobId: 9 })).toMatchObject({ code: 500 });
    expect(await ended(2)).toMatchObject({ code: 500, msg: expect.stringContaining('The executor is stopping.') });
    await until(() => admin.registered.size === 0);
    // The running job has its time to end, its log is read, and it is told.
    expect(running[0]?.context.signal.aborted).toBe(false);
    expect((await admin.log(executor, 1)).isEnd).toBe(false);
    running[0]?.finish('in time');
    await stopped;
    expect(await ended(1)).toMatchObject({ code: 200, msg: 'in time' });
    expect(running).toHaveLength(1);
    expect(admin.callbacks.map(({ logId }) => logId).sort()).toEqual(['1', '2']);
  });

  it('ends the jobs that run for longer than its stopTimeout, and lets the admin kill them before', async () => {
    const { running, handler } = slow();
    const executor = await start({ slow: handler }, { stopTimeout: '1s' });
    for (const id of [1, 2]) await admin.trigger(executor, { jobId: id, logId: id, handler: 'slow' });
    await until(() => running.length === 2);
    const stopped = executors[0]?.stop();
    expect(await admin.call(executor, 'kill', { jobId: 1 })).toMatchObject({ code: 200 });
    await stopped;
    expect(await ended(1)).toMatchObject({ code: 500, msg: expect.stringContaining('killed from the admin') });
    expect(await ended(2)).toMatchObject({ code: 500, msg: expect.stringContaining('The executor is stopping.') });
  });

  it('reports the ends of jobs once, when the admin is back, also after a restart', async () => {
    const executor = await start({ quick: () => 'ok' });
    await until(() => admin.registered.size === 1);
    admin.down = true;
    for (let logId = 1; logId <= 5; logId++) await admin.trigger(executor, { jobId: logId, logId, handler: 'quick' });
    await until(async () => (await admin.log(executor, 5)).isEnd && (await admin.log(executor, 5)).toLineNum === 2);
    await executors.splice(0)[0]?.stop();
    expect(admin.callbacks).toHaveLength(0);
    // A file that was not written to its end does not block the others.
    writeFileSync(join(folder, 'ends', '0.json'), '');
    admin.down = false;
    // Without a version, as for a later 2.x and for 3.5: the admin is told before it has triggered a job.
    const next = await start({ quick: () => 'ok' });
    await until(() => admin.callbacks.length === 5);
    expect(admin.callbacks.map(({ logId }) => logId).sort()).toEqual(['1', '2', '3', '4', '5']);
    expect((await admin.log(next, 3)).isEnd).toBe(true);
    await executors[0]?.stop();
    expect(admin.callbacks).toHaveLength(5);
    expect(existsSync(join(folder, 'ends', '0.json.broken'))).toBe(true);
  });

  it('reports the ends behind one that the admin refuses, and that one when the admin takes it', async () => {
    const executor = await start({ quick: (param) => param });
    await until(() => admin.registered.size === 1);
    admin.down = true;
    for (let logId = 1; logId <= 130; logId++)
      expect(await admin.trigger(executor, { jobId: logId, logId, handler: 'quick', param: `${logId}` })).toMatchObject({ code: 200 });
    await until(() => readdirSync(join(folder, 'ends')).filter((name) => name.endsWith('.json')).length === 130);
    for (const logId of ['1', '77', '101']) admin.refuses.add(logId);
    const before = admin.refused.length;
    admin.down = false;
    await until(() => admin.callbacks.length === 127, { withinMs: 20_000 });
    // An end that comes later is not held either.
    await admin.trigger(executor, { jobId: 200, logId: 200, handler: 'quick' });
    await ended(200);
    expect(admin.refused.length - before).toBeLessThan(80);
    admin.refuses.clear();
    for (const logId of [1, 77, 101]) expect(await ended(logId)).toMatchObject({ code: 200, msg: `${logId}` });
    expect(new Set(admin.callbacks.map(({ logId }) => logId)).size).toBe(131);
    expect(admin.callbacks).toHaveLength(131);
  }, 40_000);

  it('may be started and stopped at any time, and registers with each of several admins', async () => {
    await using second = await adminDouble(version);
    await start({}, { admins: [admin.url, second.url] });
    await until(() => admin.registered.size === 1 && second.registered.size === 1);
    const [executor] = executors.splice(0);
    await executor?.stop();
    expect(second.registered.size).toBe(0);
    if (executor) await startStopStress(executor, { callers: 3, cycles: 3 });
  });
});

describe('options of an executor', () => {
  it.each([
    [{ admins: ['xxl.example'] }, /admins must be addresses/],
    [{ appName: 'x' }, /4 to 64/],
    [{ handlers: { job: 'x' } }, /handler job is string/],
    [{ version: '1.9' }, /version is "1.9"/],
    [{ timeZone: 'Mars/Olympus' }, /not a known time zone/],
    [{ stopTimeout: 'soon' }, /stopTimeout is "soon"/],
  ])('%j are refused', (options, message) => {
    expect(() => createExecutor({ admins: [], appName: 'holdfast-test', handlers: {}, ...options } as never)).toThrow(message);
  });
});
