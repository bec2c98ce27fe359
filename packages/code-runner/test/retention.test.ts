import { existsSync } from 'node:fs';
import { setCheckpointHook } from '@holdfast/core';
import { afterEach, describe, expect, it } from 'vitest';
import { type CodeRunner, type CodeRunnerOptions, databaseFiles, type FileStoreOf } from '../src/index.ts';
import { s3Files } from '../src/s3/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { bucket, s3Client } from './s3.ts';
import { alice, eventsOf, onEveryDatabase, runToEnd, type Suite, submit, textOf } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);
const day = 86_400_000;

/** Moves the clock of a runner to tomorrow, and after tomorrow, and makes the passes of these days. */
async function passDays(runner: CodeRunner, days: number): Promise<void> {
  const worker = runner.worker();
  for (let i = 0; i < days; i++) {
    runner.database.clockOffsetMs += day + 60_000;
    for (let pass = 0; pass < 3; pass++) await worker.sweep();
  }
}

async function sizes(suite: Suite): Promise<Readonly<Record<string, number>>> {
  const tables = ['run', 'event', 'task', 'file', 'object', 'blob', 'manifest_blob'];
  const counts = await Promise.all(
    tables.map(async (table) => Number((await suite.db.knex(`runner_${table}`).count({ n: '*' }))[0]?.n ?? 0)),
  );
  return Object.fromEntries(tables.map((table, i) => [table, counts[i] ?? 0]));
}

/** A runner whose sweeps start no programs. */
function sweeper(suite: Suite, options: Partial<CodeRunnerOptions> = {}): CodeRunner {
  return suite.runner({ executor: localSandbox({ isolation: 'none-trusted-code-only' }), keepRuns: '1h', ...options });
}

afterEach(() => setCheckpointHook(undefined));

/** At the first time a checkpoint is reached, `what` is done. */
function once(name: string, what: () => Promise<unknown>): () => boolean {
  let done = false;
  setCheckpointHook(async (at) => {
    if (at !== name || done) return;
    done = true;
    await what();
  });
  return () => done;
}

onEveryDatabase('what is kept for a time', (suite) => {
  const stores: readonly (readonly [string, () => Promise<FileStoreOf>])[] = [
    ['the database', async () => databaseFiles()],
    ...(process.env.HOLDFAST_S3_URL
      ? ([['S3', async () => s3Files({ client: s3Client(), bucket: await bucket(), prefix: `${suite.db.name}/` })]] as const)
      : []),
  ];

  it.each(stores)('leaves nothing behind in %s: a few days later, tables and store are as small as before', async (_, make) => {
    const files = await make();
    const runner = suite.runner({ executor: localSandbox(isolation), files, pools: { days: {} } });
    const worker = runner.worker({ grace: 300 });
    await worker.start();
    const { run } = await runToEnd(runner, 'print("hello")\nopen("/out/answer", "w").write("42")\n');
    await runner.files.write(run.taskId, 'notes', 'one', alice);
    await runner.files.write(run.taskId, 'notes', 'two', alice);
    await eventsOf(runner, (await runner.runs.submit(run.taskId, { ...alice, idempotencyKey: 'k' })).id);
    await expect.poll(async () => (await suite.db.knex('runner_run').where({ phase: 'terminal', log_packed: 0 })).length).toBe(0);
    await worker.stop();
    const store = files(runner.database);
    // The results of a worker that died before it recorded them.
    await store.put(`${run.jobUid}/out/orphan`, Buffer.from('x'), 1);
    expect(await store.list(`${run.jobUid}/`, 10)).toEqual(
      expect.arrayContaining(['out/answer', 'out/orphan', `log/${run.jobUid}.log`].map((name) => `${run.jobUid}/${name}`)),
    );
    const staying = await runner.tasks.create({
      ...alice,
      name: 'staying',
      language: 'python',
      files: { 'run.py': 'stays' },
      main: 'run.py',
    });
    await runner.tasks.remove(run.taskId, alice);
    const later = sweeper(suite, { files });
    later.database.clockOffsetMs = day / 2;
    const due = { pool: null, language: null, oldestMs: expect.any(Number) };
    expect((await later.inspect().stats()).slice(-1)).toEqual([{ ...due, status: 'RUNS_TO_DELETE', count: 2 }]);
    later.database.clockOffsetMs = 0;
    // The manifests go first, then what they refer to; each is looked at once a day.
    await passDays(later, 5);
    expect(await store.list(`${run.jobUid}/`, 10)).toEqual([]);
    expect((await store.list('blobs/', 10)).length, 'contents in the store').toBe(1);
    expect(await textOf((await runner.files.read(staying.id, 'run.py', alice)).content)).toBe('stays');
    expect(await sizes(suite)).toMatchObject({ run: 1, event: 0, task: 1, file: 1, blob: 1, manifest_blob: 0 });
    expect(await suite.db.knex('holdfast_once').where({ scope: 'code-runner/submit' })).toEqual([]);
    await runner.tasks.remove(staying.id, alice);
    await passDays(later, 3);
    expect(Object.values(await sizes(suite)).every((n) => n === 0)).toBe(true);
  });

  it('a content stays that the sweep would have removed between its upload and the reference to it', async () => {
    const runner = sweeper(suite, { keepRuns: 'all' });
    const task = await runner.tasks.create({ ...alice, name: 'race', language: 'python', files: { 'run.py': 'pass' }, main: 'run.py' });
    const swept = once('runner:kept', () => passDays(runner, 2));
    await runner.files.write(task.id, 'a', 'content of a', alice);
    expect(swept()).toBe(true);
    expect(await textOf((await runner.files.read(task.id, 'a', alice)).content)).toBe('content of a');
    once('runner:frozen', () => passDays(runner, 2));
    const run = await runner.runs.submit(task.id, alice);
    await runner.files.write(task.id, 'a', 'another content', alice);
    await passDays(runner, 3);
    expect((await textOf(await runner.runs.download(run.id, alice))).length).toBeGreaterThan(100);
  });

  it('a content is stored again after the sweep has removed it, though the sweep had begun to', async () => {
    const runner = sweeper(suite);
    const other = suite.runner();
    const task = await runner.tasks.create({
      ...alice,
      name: 'again',
      language: 'python',
      files: { 'run.py': 'pass', x: 'once' },
      main: 'run.py',
    });
    await runner.files.write(task.id, 'x', 'twice', alice);
    let written: Promise<unknown> | undefined;
    const doomed = once('runner:doomed', async () => {
      written = other.files.write(task.id, 'y', 'once', alice);
      await new Promise((resolve) => setTimeout(resolve, 200));
    });
    await passDays(runner, 2);
    expect(doomed()).toBe(true);
    await written;
    expect(await textOf((await other.files.read(task.id, 'y', alice)).content)).toBe('once');
    await runner.files.write(task.id, 'z', 'once', alice);
    expect(await textOf((await other.files.read(task.id, 'z', alice)).content)).toBe('once');
  });

  it('what a sweep has doomed before its process died is removed by a later one', async () => {
    const runner = sweeper(suite);
    const task = await runner.tasks.create({ ...alice, name: 'dead', language: 'python', files: { 'run.py': 'dead 1' }, main: 'run.py' });
    await runner.files.write(task.id, 'run.py', 'dead 2', alice);
    once('runner:doomed', async () => {
      throw new Error('the process dies');
    });
    await passDays(runner, 1);
    expect(await suite.db.knex('runner_blob').whereNotNull('doomed_at')).toHaveLength(1);
    await passDays(runner, 1);
    expect(await suite.db.knex('runner_blob').whereNotNull('doomed_at')).toEqual([]);
    await runner.files.write(task.id, 'run.py', 'dead 1', alice);
    expect(await textOf((await runner.files.read(task.id, 'run.py', alice)).content)).toBe('dead 1');
  });

  it('the contents of runs of an earlier version stay as long as the runs', async () => {
    const runner = sweeper(suite, { keepRuns: 'all' });
    const run = await submit(runner, 'print("of an earlier version")');
    await suite.db.knex('runner_run').where({ id: run.id }).update({ manifest_recorded: 0 });
    for (const table of ['runner_blob', 'runner_manifest_blob']) await suite.db.knex(table).delete();
    await runner.files.write(run.taskId, 'run.py', 'print("new")', alice);
    await passDays(runner, 3);
    expect(await suite.db.knex('runner_manifest_blob').select('manifest_hash')).toHaveLength(1);
    expect((await textOf(await runner.runs.download(run.id, alice))).length).toBeGreaterThan(100);
  });
});

describe.skipIf(process.env.HOLDFAST_DATABASES === 'sqlite')('a transaction', () => {
  onEveryDatabase(
    'that refers to a content',
    (suite) => {
      it('keeps it from a sweep that comes before its commit', async () => {
        const runner = sweeper(suite);
        const task = await runner.tasks.create({ ...alice, name: 't', language: 'python', files: { 'run.py': 'first' }, main: 'run.py' });
        const [old] = await suite.db.knex('runner_file').where({ task_id: task.id });
        await runner.files.write(task.id, 'run.py', 'second', alice);
        const { BlobTable } = await import('../src/store/blob-table.ts');
        const table = new BlobTable(runner.database, day);
        await runner.database.transaction(async (sql) => {
          runner.database.clockOffsetMs += 2 * day;
          expect((await table.live(sql, [old.blob_hash])).size).toBe(1);
          await runner.worker().sweep();
          await sql.run(`UPDATE ${runner.database.table('runner_file')} SET blob_hash = ? WHERE id = ?`, [old.blob_hash, String(old.id)]);
        });
        await passDays(runner, 2);
        expect(await textOf((await runner.files.read(task.id, 'run.py', alice)).content)).toBe('first');
      });
    },
    ['postgres', 'mysql', 'mariadb'],
  );
});
