import { existsSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { recordLog, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { type CodeRunner, databaseFiles, type FileStoreOf, python, type RunEvent, r, scala } from '../src/index.ts';
import { splitCommand } from '../src/runs/argv.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { readZip } from '../src/zip/read-zip.ts';
import { alice, eventsOf, logOf, onEveryDatabase, runToEnd, submit, textOf } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);

onEveryDatabase('runs', (suite) => {
  const started = async (options: Parameters<typeof suite.runner>[0] = {}): Promise<CodeRunner> => {
    const runner = suite.runner({ executor: localSandbox(isolation), ...options });
    await runner.worker({ grace: 300 }).start();
    return runner;
  };

  it.for([
    ['python', '/usr/bin/python3', /Hello from Python 3/],
    ['r', '/usr/bin/Rscript', /Hello from R version/],
    ['scala', '/usr/bin/scalac', /Hello from Scala 2/],
  ] as const)('a new task of %s says hello, and every step of its run is told in order', async ([language, binary, hello], { skip }) => {
    skip(!existsSync(binary), `${binary} is not installed`);
    const runner = await started({ languages: [python(), r(), scala()] });
    const task = await runner.tasks.create({ ...alice, name: 'hello', language });
    const run = await runner.runs.submit(task.id, alice);
    expect(run).toMatchObject({ id: task.draftRunId, state: 1, phase: 'queued' });
    const events = await eventsOf(runner, run.id);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
    expect(events.flatMap((event) => (event.type === 'state' ? [event.phase] : []))).toEqual([
      'queued',
      'claimed',
      'starting',
      'running',
      'collecting',
      'terminal',
    ]);
    expect(logOf(events)).toMatch(hello);
    expect(await runner.runs.get(run.id, alice)).toMatchObject({
      state: 3,
      reason: null,
      exitCode: 0,
      message: 'The program has finished.',
    });
  });

  it('a worker stops though the files of a program can not be collected, and ends the run', async () => {
    const log = recordLog();
    const sandbox = localSandbox(isolation);
    let collecting = false;
    const executor = new Proxy(sandbox, {
      get(target, name) {
        if (name === 'output')
          return () => {
            collecting = true;
            return { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) };
          };
        const value = Reflect.get(target, name) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const runner = suite.runner({ executor, logger: log });
    const worker = runner.worker({ stopTimeout: 50 });
    await worker.start();
    const { id } = await submit(runner, 'print(1)');
    await until(() => collecting);
    await worker.stop();
    expect(log.at('warn', 'had not ended')).toMatchObject([{ fields: { runs: [id] } }]);
    expect(await runner.runs.get(id, alice)).toMatchObject({ state: 4, reason: 'NODE_LOST', phase: 'terminal' });
  });

  it('arguments, files in folders, a data set and results go where they belong; the archive has them all', async () => {
    const runner = await started();
    const task = await runner.tasks.create({
      ...alice,
      name: 'io',
      language: 'python',
      files: {
        'src/main.py':
          'import sys, os\nos.makedirs("/out/sub")\nopen("/out/sub/result.txt", "w").write(" ".join(sys.argv[1:]) + open("lib/x.txt").read())\n',
        'lib/x.txt': '!',
      },
      main: 'src/main.py',
    });
    const run = await runner.runs.submit(task.id, {
      ...alice,
      argv: ['python3', 'src/main.py', 'a b', '$HOME', "'"],
      remarks: 'first try',
    });
    await eventsOf(runner, run.id);
    const ended = await runner.runs.get(run.id, alice);
    expect(ended).toMatchObject({
      state: 3,
      remarks: 'first try',
      output: { files: [{ path: 'sub/result.txt', size: 12 }], truncated: false },
    });
    expect(await textOf(await runner.runs.output(run.id, 'sub/result.txt', alice))).toBe("a b $HOME '!");
    await expect
      .poll(async () => (await readZip(await buffer(await runner.runs.download(run.id, alice)))).entries.map(({ path }) => path))
      .toEqual(['out/sub/result.txt', 'run.log', 'code/lib/x.txt', 'code/src/main.py']);
    // The snapshot is the run's: edits come after it.
    await runner.files.write(task.id, 'lib/x.txt', 'changed', alice);
    const zip = await readZip(await buffer(await runner.runs.download(run.id, alice)));
    expect(await textOf((await zip.entries.find(({ path }) => path === 'code/lib/x.txt')?.open()) as never)).toBe('!');
    zip.close();
    expect((await runner.tasks.get(task.id, alice)).draftRunId).not.toBeNull();
    expect(await runner.runs.list(alice, { taskId: task.id })).toMatchObject([{ id: run.id }]);
  });

  it('two readers that come and go have each every byte once, live and packed', async () => {
    const runner = await started();
    const { id } = await submit(
      runner,
      'import sys, time\nfor i in range(300):\n  (sys.stdout if i % 3 else sys.stderr).write("line %d äöü 数据 😀\\n" % i)\n  if i % 30 == 0: sys.stdout.flush(); time.sleep(0.05)\n',
    );
    const read = async (patience: number): Promise<RunEvent[]> => {
      const got: RunEvent[] = [];
      for (let end = false; !end; ) {
        let few = 0;
        for await (const event of runner.runs.events(id, { ...alice, after: got.at(-1)?.seq ?? 0, signal: AbortSignal.timeout(30_000) })) {
          got.push(event);
          end = event.type === 'state' && event.phase === 'terminal';
          if (++few >= patience) break;
        }
      }
      return got;
    };
    const [one, two] = await Promise.all([read(1), read(7)]);
    const expected = (stderr: boolean): string =>
      Array.from({ length: 300 }, (_, i) => i)
        .filter((i) => (i % 3 === 0) === stderr)
        .map((i) => `line ${i} äöü 数据 😀\n`)
        .join('');
    for (const events of [one, two]) {
      expect(logOf(events, 'stdout')).toBe(expected(false));
      expect(logOf(events, 'stderr')).toBe(expected(true));
      for (const event of events) if (event.type === 'log') new TextDecoder('utf-8', { fatal: true }).decode(event.bytes);
    }
    await expect
      .poll(async () =>
        suite.db
          .knex('runner_event')
          .where({ run_id: id })
          .then((rows) => rows.length),
      )
      .toBe(0);
    const packed = await eventsOf(runner, id);
    expect(packed).toEqual(one);
    const late = await eventsOf(runner, id, 5);
    expect(late).toEqual(one.slice(5));
  });

  it('ends are named: an exit code, a signal, a compiler, a stop in the queue', async () => {
    const runner = await started();
    expect((await runToEnd(runner, 'import sys; sys.exit(3)')).run).toMatchObject({
      state: 4,
      reason: 'EXIT_NONZERO',
      exitCode: 3,
      signal: null,
    });
    expect((await runToEnd(runner, 'import os; os.kill(os.getpid(), 11)')).run).toMatchObject({
      state: 4,
      reason: 'SIGNAL',
      signal: 'SIGSEGV',
    });
    expect((await runToEnd(runner, '', { argv: ['no-such-program'] })).run).toMatchObject({
      state: 4,
      reason: 'EXIT_NONZERO',
      exitCode: 127,
    });
    expect((await runToEnd(runner, 'import sys; sys.exit(137)')).run).toMatchObject({
      reason: 'EXIT_NONZERO',
      exitCode: 137,
      signal: null,
    });
    expect((await runToEnd(runner, 'import os; os.kill(os.getpid(), 9)')).run).toMatchObject({ reason: 'SIGNAL', signal: 'SIGKILL' });
    const missing = await runToEnd(runner, '', { argv: ['no-such-program'] });
    expect(missing.log).toBe('There is no program no-such-program that can be started.\n');
    expect(missing.run.message).toMatch(/exit code 127. There is no such program/);
    // Nobody serves its pool: it has ended when the call returns.
    const idle = suite.runner({ pools: { idle: {} } });
    const waiting = await submit(idle, 'print(1)', { priority: -9 });
    expect(await idle.runs.terminate(waiting.id, alice)).toMatchObject({ state: 5, reason: null });
  });

  it('one that waits for too long is told so, though no slot was ever free', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), pools: { full: { slots: 1 } }, queueTimeout: 100 });
    await suite.db.knex('holdfast_slot').insert({ scope: 'runner/full', slot: 1, holder: 'somebody' });
    const { id } = await submit(runner, 'print(1)');
    await runner.worker({ sweep: 100 }).start();
    expect((await eventsOf(runner, id)).at(-1)).toMatchObject({ phase: 'terminal', reason: 'QUEUE_EXPIRED' });
    await suite.db.knex('holdfast_slot').where({ scope: 'runner/full' }).delete();
  });

  it('a log that can not be packed holds up no other', async () => {
    let refused = '';
    const files: FileStoreOf = (database) => {
      const store = databaseFiles()(database);
      const put: typeof store.put = (name, content, size) =>
        refused !== '' && name.includes(refused) ? Promise.reject(new Error('the store refuses this one')) : store.put(name, content, size);
      return {
        name: store.name,
        put,
        open: store.open.bind(store),
        size: store.size.bind(store),
        remove: store.remove.bind(store),
        list: store.list.bind(store),
        probe: store.probe.bind(store),
      };
    };
    const runner = suite.runner({ executor: localSandbox(isolation), files, pools: { packing: {} } });
    const bad = await submit(runner, 'print(1)');
    refused = bad.jobUid;
    const good = await submit(runner, 'print(2)');
    for (const { id } of [bad, good]) await runner.runs.terminate(id, alice);
    const rows = () => suite.db.knex('runner_run').whereIn('id', [bad.id, good.id]).orderBy('id');
    await rows().update({ ended_at: Date.now() - 86_400_000 });
    await runner.worker({ sweep: 100 }).start();
    await expect.poll(async () => (await rows()).map(({ log_packed }) => Number(log_packed)), { timeout: 10_000 }).toEqual([0, 1]);
    // Its events are where they were.
    expect((await eventsOf(runner, bad.id)).at(-1)).toMatchObject({ phase: 'terminal' });
    refused = '';
    await expect.poll(async () => (await rows()).map(({ log_packed }) => Number(log_packed)), { timeout: 10_000 }).toEqual([1, 1]);
  });

  it('a run whose program was not started goes back to the queue when its service stops, and runs once under the next', async () => {
    const sandbox = localSandbox(isolation);
    const full = new Proxy(sandbox, {
      get: (target, name) =>
        name === 'start'
          ? () => Promise.reject(new Error('the disk is full'))
          : (Reflect.get(target, name, target)?.bind?.(target) ?? Reflect.get(target, name, target)),
    });
    const pools = { stopping: {} };
    const first = suite.runner({ executor: full, pools });
    const worker = first.worker({ stopTimeout: 200 });
    await worker.start();
    const { id } = await submit(first, 'print("once")');
    await expect.poll(async () => (await first.runs.get(id, alice)).phase).toBe('starting');
    await worker.stop();
    expect(await first.runs.get(id, alice)).toMatchObject({ state: 1, phase: 'queued', attempt: 2, reason: null });
    const second = suite.runner({ executor: localSandbox(isolation), pools });
    await second.worker({ grace: 300 }).start();
    const events = await eventsOf(second, id);
    expect(logOf(events)).toBe('once\n');
    expect(events.filter((event) => event.type === 'state' && event.phase === 'terminal')).toMatchObject([{ state: 3 }]);
  });

  it('your own programs run as plain processes where that is said, with the same ends and results', async () => {
    const runner = suite.runner({ executor: localSandbox({ isolation: 'none-trusted-code-only' }), pools: { plain: {} } });
    await runner.worker({ grace: 300 }).start();
    const { run, log } = await runToEnd(
      runner,
      'import os, sys\nprint("plain")\nopen(os.environ["OUT_DIR"] + "/r", "w").write("42")\nsys.exit(5)\n',
    );
    expect(log).toBe('plain\n');
    expect(run).toMatchObject({ state: 4, reason: 'EXIT_NONZERO', exitCode: 5, output: { files: [{ path: 'r', size: 2 }] } });
    expect((await runToEnd(runner, 'while True: pass', { limits: { timeoutMs: 500 } })).run).toMatchObject({ reason: 'TIMEOUT' });
  });

  it('one live run of a task and person, also of a hundred that submit at once; an idempotency key returns the same', async () => {
    const runner = suite.runner();
    const task = await runner.tasks.create({ ...alice, name: 'one', language: 'python' });
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => runner.runs.submit(task.id, alice)));
    const [won] = all.filter((one) => one.status === 'fulfilled');
    expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const one of all) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'live-run', runId: won?.value.id });
    await runner.runs.terminate(won?.value.id ?? '', alice);
    const keyed = await Promise.all([1, 2, 3].map(() => runner.runs.submit(task.id, { ...alice, idempotencyKey: 'k1' })));
    expect(new Set(keyed.map(({ id }) => id)).size).toBe(1);
    await runner.runs.terminate(keyed[0]?.id ?? '', alice);
    expect((await runner.runs.submit(task.id, { ...alice, idempotencyKey: 'k1' })).id).toBe(keyed[0]?.id);
  });

  it('what can not be run is refused with the sentence to act on', async () => {
    const runner = suite.runner();
    const task = await runner.tasks.create({ ...alice, name: 'bad', language: 'python', files: { 'a.py': '' } });
    const refused = async (more: object, why: RegExp): Promise<void> => {
      await expect(runner.runs.submit(task.id, { ...alice, ...more })).rejects.toThrow(why);
    };
    await expect(runner.tasks.create({ ...alice, name: 'x', language: 'cobol' })).rejects.toThrow(
      /no language "cobol"; choose one of python/,
    );
    await refused({}, /no main file.*setMain/);
    await refused({ argv: 'python3 run.py' }, /give a list of strings/);
    await refused({ argv: [] }, /argv is empty/);
    await refused({ argv: ['a', 1] }, /argv\[1\] is 1/);
    await refused({ argv: ['a\u0000'] }, /NUL/);
    await refused({ argv: ['x'.repeat(70_000)] }, /at most 65536/);
    await refused({ argv: ['x'], execCommand: 'x' }, /Give one of argv/);
    await refused({ execCommand: 'a | b' }, /only a shell understands/);
    await refused({ argv: ['x'], limits: { memoryBytes: 2 ** 40 } }, /memoryBytes is 1099511627776; the pool small allows 536870912/);
    await refused({ argv: ['x'], limits: { cpus: 0 } }, /cpus is 0; give a number of at least 0.01/);
    await refused({ argv: ['x'], limits: { memoryBytes: 0.5 } }, /memoryBytes is 0.5; give a whole number of at least 16,777,216/);
    for (const name of ['memoryBytes', 'timeoutMs', 'outputBytes', 'diskBytes', 'processes', 'resultBytes'])
      for (const value of [0, -1, 0.5, 1.5, Number.NaN, '64', null, 2 ** 60])
        await refused({ argv: ['x'], limits: { [name]: value } }, new RegExp(`limits.${name} is .*give a whole number`));
    for (const value of [0.001, Number.NaN, Number.POSITIVE_INFINITY, '1', null])
      await refused({ argv: ['x'], limits: { cpus: value } }, /limits.cpus is .*at least 0.01/);
    await refused({ argv: ['x'], limits: JSON.parse('{ "constructor": 5 }') }, /no limit "constructor"/);
    await refused({ argv: ['x'], limits: JSON.parse('{ "__proto__": { "cpus": 1 } }') }, /no limit "__proto__"/);
    await refused({ argv: ['x'], limits: { disk: 1 } }, /no limit "disk"/);
    await refused({ argv: ['x'], pool: 'huge' }, /no pool "huge"; choose one of small/);
    await refused({ argv: ['x'], priority: 10 }, /from -9 to 9/);
    await runner.files.setMain(task.id, 'a.py', alice);
    await runner.files.remove(task.id, 'a.py', alice);
    await refused({}, /no main file/);
    expect(splitCommand(`python3 run.py --name "a b" 'it''s' c\\ d ""`)).toEqual(['python3', 'run.py', '--name', 'a b', 'its', 'c d', '']);
  });

  it('a task that is removed stops first; its runs stay', async () => {
    const runner = await started();
    const task = await runner.tasks.create({
      ...alice,
      name: 'long',
      language: 'python',
      files: { 'r.py': 'import sys, time; sys.stdout.write("1\\n"); time.sleep(60)' },
      main: 'r.py',
    });
    const run = await runner.runs.submit(task.id, alice);
    for await (const event of runner.runs.events(run.id, { ...alice, signal: AbortSignal.timeout(20_000) }))
      if (event.type === 'log') break;
    await runner.tasks.remove(task.id, alice);
    await expect(runner.tasks.get(task.id, alice)).rejects.toMatchObject({ code: 'not-found' });
    expect(await runner.runs.get(run.id, alice)).toMatchObject({ state: 5 });
    expect(logOf(await eventsOf(runner, run.id))).toBe('1\n');
  });

  it('never more runs than slots, the most urgent first, and no slot stays taken', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), pools: { tiny: { slots: 2 } } });
    const submitted = [];
    for (let i = 0; i < 8; i++) submitted.push(await submit(runner, 'import time; time.sleep(0.1)', { priority: i % 3 }));
    await Promise.all([runner.worker().start(), runner.worker().start()]);
    for (const { id } of submitted) await eventsOf(runner, id);
    const order = await suite.db
      .knex('runner_run')
      .whereNotNull('claimed_at')
      .where({ pool: 'tiny' })
      .orderBy(['claimed_at', { column: 'priority', order: 'desc' }, 'id']);
    const expected = [...submitted].sort((a, b) => b.priority - a.priority || Number(BigInt(a.id) - BigInt(b.id))).map(({ id }) => id);
    expect(order.map(({ id }) => String(id))).toEqual(expected);
    expect(mostAtOnce(order)).toBe(2);
    await expect.poll(() => suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
  });

  it('a budget of memory holds runs back', async () => {
    const mib = 2 ** 20;
    const runner = suite.runner({
      executor: localSandbox(isolation),
      pools: { budget: { slots: 4, limits: { memoryBytes: 64 * mib }, memoryBytes: 128 * mib } },
    });
    const all = [];
    for (let i = 0; i < 6; i++) all.push(await submit(runner, 'import time; time.sleep(0.1)'));
    await runner.worker().start();
    for (const { id } of all) await eventsOf(runner, id);
    expect(mostAtOnce(await suite.db.knex('runner_run').where({ pool: 'budget' }))).toBe(2);
  });
});

/** How many runs were claimed and had not ended, at most. */
function mostAtOnce(rows: readonly { readonly claimed_at: unknown; readonly ended_at: unknown }[]): number {
  const at = rows.flatMap((row) => [
    { ms: Number(row.claimed_at), by: 1 },
    { ms: Number(row.ended_at), by: -1 },
  ]);
  let [now, most] = [0, 0];
  // One that ended in the millisecond in which another was claimed made room for it.
  for (const { by } of at.sort((a, b) => a.ms - b.ms || a.by - b.by)) most = Math.max(most, (now += by));
  return most;
}
