import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Authorize, databaseFiles, dataSetPrefix, ownersOnly } from '../src/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { alice, eventsOf, logOf, onEveryDatabase, runToEnd } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);
const mallory = { actor: 'mallory' };
/** Allows owners everything with their tasks, every object included. */
const everyObject: Authorize = (actor, _, { owner }) => actor === owner;

onEveryDatabase('data sets', (suite) => {
  it('of another tenant are not attached: no content, log or result of a task, and no data of others, whatever authorize says', async () => {
    const runner = suite.runner({ executor: localSandbox(isolation), authorize: everyObject });
    await runner.worker({ grace: 300 }).start();
    const { run } = await runToEnd(runner, 'open("/out/secret", "w").write("of alice")\n');
    const [blob] = await suite.db.knex('runner_object').where('name', 'like', 'blobs/%').limit(1);
    const names = [
      blob.name,
      `${run.jobUid}/out/secret`,
      run.resLogPath,
      'data/alice/numbers',
      'data/mallory/../alice/numbers',
      'data/mallory/./x',
      'data/mallory/',
      'data/mallory',
      'data/malloryx/y',
    ];
    const task = await runner.tasks.create({ ...mallory, name: 'spy', language: 'python' });
    for (const object of names) {
      const dataSets = [{ path: 'x', object }];
      await expect(runner.tasks.create({ ...mallory, name: 'spy', language: 'python', dataSets }), object).rejects.toThrow(
        /can't be attached/,
      );
      await expect(runner.tasks.update(task.id, { ...mallory, dataSets }), object).rejects.toMatchObject({ code: 'invalid-argument' });
      // A row of a version that did not check.
      await suite.db
        .knex('runner_task')
        .where({ id: task.id })
        .update({ data_sets: JSON.stringify(dataSets) });
      await expect(runner.runs.submit(task.id, mallory), object).rejects.toThrow(/can't be attached/);
    }
  });

  it('are attached if authorize allows it, which its default does not; the right is asked for again at each submit', async () => {
    const strict = suite.runner();
    const dataSets = [{ path: 'in/numbers', object: `${dataSetPrefix('alice')}numbers` }];
    await expect(strict.tasks.create({ ...alice, name: 'sum', language: 'python', dataSets })).rejects.toMatchObject({ code: 'forbidden' });
    let allowed = true;
    const asked: unknown[] = [];
    const runner = suite.runner({
      executor: localSandbox(isolation),
      pools: { data: {} },
      authorize: (actor, action, resource, signal) => {
        if (action !== 'attach') return ownersOnly(actor, action, resource, signal);
        asked.push([actor, resource.owner, resource.object]);
        return allowed;
      },
    });
    await databaseFiles()(runner.database).put('data/alice/numbers', Buffer.from('1 2 3'), 5);
    await runner.worker({ grace: 300 }).start();
    const files = { 'run.py': 'import os\nprint(open(os.environ["DATA_DIR"] + "/in/numbers").read())\n' };
    const task = await runner.tasks.create({ ...alice, name: 'sum', language: 'python', files, main: 'run.py', dataSets });
    const run = await runner.runs.submit(task.id, alice);
    expect(logOf(await eventsOf(runner, run.id))).toBe('1 2 3\n');
    expect(new Set(asked.map((one) => JSON.stringify(one)))).toEqual(new Set(['["alice","alice","data/alice/numbers"]']));
    allowed = false;
    await expect(runner.runs.submit(task.id, alice)).rejects.toThrow(/alice may not attach the object data\/alice\/numbers/);
  });

  it('have a prefix per owner that no other owner can begin', () => {
    expect([dataSetPrefix('a'), dataSetPrefix('a/b'), dataSetPrefix('ä')]).toEqual(['data/a/', 'data/a%2Fb/', 'data/%C3%A4/']);
  });
});
