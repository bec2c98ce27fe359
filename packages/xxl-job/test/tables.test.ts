import { migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createExecutor, type Executor, type ExecutorOptions, xxlJobSchema } from '../src/index.ts';
import { type AdminDouble, adminDouble } from '../src/testing/index.ts';

describe.each(testDialects())('an executor with a knex on $name', (dialect) => {
  let db: TestDatabase;
  let admin: AdminDouble;
  const executors: Executor[] = [];
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, [xxlJobSchema]);
  });
  beforeEach(async () => {
    admin = await adminDouble('2.3');
    for (const table of ['xxl_job_end', 'xxl_job_log']) await db.knex(table).delete();
  });
  afterEach(async () => {
    for (const executor of executors.splice(0)) await executor.stop();
    await admin.close();
  });
  afterAll(() => db.drop());
  const start = async (handlers: ExecutorOptions['handlers'], knex: Knex = db.knex): Promise<Executor> => {
    const executor = createExecutor({
      admins: [admin.url],
      appName: 'holdfast-test',
      accessToken: 'default_token',
      handlers,
      port: 0,
      knex,
      logger: silentLogger,
    });
    executors.push(executor);
    await executor.start();
    return executor;
  };
  const ended = (logId: string) => until(() => admin.callbacks.find((callback) => callback.logId === logId));
  const id = '1152921504606846977';

  it('keeps logs in a table, line by line and exact, and serves them after a restart', async () => {
    const odd = ["it's", 'a\\', '{"now":"{now}"} ? ??', 'NUL \0 and half \uD800', '\u{1F600} 张三', ''];
    const executor = await start({
      chatty: (_param, { log }) => {
        for (const text of odd) log(text);
        for (let n = 1; n <= 2_600; n++) log(`line ${n}`);
      },
    });
    await admin.trigger(executor.address, { jobId: 1, logId: id, handler: 'chatty' });
    await ended(id);
    await executors.splice(0)[0]?.stop();
    const next = await start({});
    const lines: string[] = [];
    for (let from = 1; ; ) {
      const part = await admin.log(next.address, id, from);
      expect(part.fromLineNum).toBe(from);
      const own = part.logContent.split('\n').slice(0, -1);
      expect(part.toLineNum).toBe(from - 1 + own.length);
      lines.push(...own);
      from = part.toLineNum + 1;
      if (part.isEnd) break;
    }
    const texts = lines.map((line) => line.slice('2026-11-30 17:35:28.123 '.length));
    expect(texts.slice(1, 1 + odd.length)).toEqual(odd.map((text) => text.replaceAll(/\0|\uD800/g, '\uFFFD')));
    expect(texts.slice(1 + odd.length, -1)).toEqual(Array.from({ length: 2_600 }, (_, n) => `line ${n + 1}`));
    expect(texts.at(-1)).toContain('ended with 200');
    expect((await admin.log(next.address, id, 1_500)).logContent.split('\n')[0]).toContain(texts[1_499] ?? '?');
    // Another run of nearly the same number has its own log.
    expect(await admin.log(next.address, '1152921504606846978')).toMatchObject({ toLineNum: 0, logContent: '' });
  });

  it('keeps ends in a table until the admin takes them, and reports those of an executor that died', async () => {
    const executor = await start({ quick: (param) => param });
    admin.down = true;
    for (const logId of [id, '1152921504606846978', '7'])
      await admin.trigger(executor.address, { jobId: 1, logId, handler: 'quick', param: `ran ${logId}` });
    const stored = async () => Number((await db.knex('xxl_job_end').count({ n: '*' }))[0]?.n);
    await until(async () => (await stored()) === 3);
    await executors.splice(0)[0]?.stop();
    expect(await stored()).toBe(3);
    admin.down = false;
    // As of an executor that has been away for a minute.
    const next = await start({});
    await db
      .knex('xxl_job_end')
      .where({ log_id: 7 })
      .update({ ended_at: Date.now() - 120_000 });
    expect(await ended('7')).toMatchObject({ code: 200, msg: 'ran 7' });
    expect(admin.callbacks).toHaveLength(1);
    await db.knex('xxl_job_end').update({ ended_at: Date.now() - 120_000 });
    expect(await ended(id)).toMatchObject({ code: 200, msg: `ran ${id}` });
    expect(await ended('1152921504606846978')).toMatchObject({ code: 200, msg: 'ran 1152921504606846978' });
    await until(async () => (await stored()) === 0);
    expect(next.address).not.toBe(executor.address);
  });

  it('tells the admin of an end that could not be stored', async () => {
    const executor = await start({ quick: () => 'done' });
    await db.knex.schema.renameTable('xxl_job_end', 'xxl_job_gone');
    try {
      await admin.trigger(executor.address, { jobId: 1, logId: '7', handler: 'quick' });
      expect(await ended('7')).toMatchObject({ code: 200, msg: 'done' });
    } finally {
      await db.knex.schema.renameTable('xxl_job_gone', 'xxl_job_end');
    }
  });

  it('deletes logs and ends that are older than keepDays', async () => {
    const old = { app_name: 'holdfast-test', log_id: '5' };
    await db.knex('xxl_job_log').insert({ ...old, first_line: 1, line_count: 1, content: 'old', written_at: 1 });
    await db.knex('xxl_job_end').insert({ ...old, executor: 'gone', log_time: 1, code: 200, msg: '', ended_at: 1, due_at: 9e15 });
    await start({});
    await until(async () => (await db.knex('xxl_job_log')).length === 0 && (await db.knex('xxl_job_end')).length === 0);
  });

  it('asks for the tables before it listens, and may be started again', async () => {
    const bare = await dialect.create();
    try {
      await expect(start({}, bare.knex)).rejects.toMatchObject({ code: 'migration-required' });
      await migrate(bare.knex, [xxlJobSchema]);
      const [executor] = executors.slice(-1);
      await executor?.start();
      await executor?.stop();
      await executor?.start();
      await until(() => admin.registered.size === 1);
      await executor?.stop();
    } finally {
      await bare.drop();
    }
    expect(() => createExecutor({ admins: [], appName: 'holdfast-test', handlers: {}, knex: db.knex, folder: '/x' })).toThrow(/not both/);
  });
});
