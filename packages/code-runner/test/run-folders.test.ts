import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { dataSetPrefix } from '../src/index.ts';
import { s3Files } from '../src/s3/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { bucket, s3Client } from './s3.ts';
import { alice, eventsOf, onEveryDatabase, textOf } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);

if (process.env.HOLDFAST_S3_URL)
  onEveryDatabase(
    'the folder of a run in a bucket',
    (suite) => {
      it('has its code and data once it is submitted, its results and log once it has ended, under the names that the run tells', async () => {
        const files = s3Files({ client: s3Client(), bucket: await bucket(), prefix: 'of a run+/' });
        const runner = suite.runner({ executor: localSandbox(isolation), files, authorize: (actor, _, { owner }) => actor === owner });
        const store = files(runner.database);
        await store.put(`${dataSetPrefix('alice')}a set ü`, Buffer.from('1 2 3'), 5);
        const program = 'print("hello")\nopen("/out/answer", "w").write("42")\n';
        const task = await runner.tasks.create({
          ...alice,
          name: 'folder',
          language: 'python',
          files: { 'run.py': program, 'lib/näme with blank+.txt': 'x', empty: '' },
          dataSets: [{ path: 'numbers', object: `${dataSetPrefix('alice')}a set ü` }],
        });
        const run = await runner.runs.submit(task.id, alice);
        const names = ['code/empty', 'code/lib/näme with blank+.txt', 'code/run.py', 'data/numbers'].map((name) => `${run.dirPath}${name}`);
        expect((await store.list(run.dirPath, 100)).toSorted()).toEqual(names);
        expect(await textOf(await store.open(`${run.dirPath}code/run.py`))).toBe(program);
        expect(await textOf(await store.open(`${run.dirPath}data/numbers`))).toBe('1 2 3');
        // As if the process had died between its commit and the copies.
        await store.remove(names);
        const worker = runner.worker({ grace: 300 });
        await worker.start();
        await eventsOf(runner, run.id);
        await expect
          .poll(async () => (await store.list(run.dirPath, 100)).toSorted())
          .toEqual([...names, run.resLogPath, `${run.downloadPath}answer`].toSorted());
        expect(await textOf(await store.open(run.resLogPath))).toBe('hello\n');
      });

      it('is not what a run depends on: a run whose data set can not be copied is queued', async () => {
        const files = s3Files({ client: s3Client(), bucket: await bucket(), prefix: 'missing/' });
        const runner = suite.runner({ files, authorize: (actor, _, { owner }) => actor === owner });
        const dataSets = [{ path: 'numbers', object: `${dataSetPrefix('alice')}never there` }];
        const task = await runner.tasks.create({ ...alice, name: 'missing', language: 'python', dataSets });
        expect(await runner.runs.submit(task.id, alice)).toMatchObject({ phase: 'queued' });
      });
    },
    ['sqlite', 'postgres'],
  );
else it.skip('the folder of a run in a bucket: no S3 is up', () => undefined);
