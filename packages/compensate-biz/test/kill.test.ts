import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { every } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

const checkpoints = [
  'work:after-claim',
  'work:before-run',
  'work:after-run',
  'work:before-settle',
  'work:after-settle',
  'commit:before-settle',
  'commit:after',
  'promote:after',
];
/** Passed once per batch, not once per row. */
const oncePerBatch = new Set(['work:after-claim', 'work:before-settle', 'work:after-settle', 'promote:after']);

onEveryDatabase('a worker that is killed', (suite) => {
  const children = new Set<ChildProcess>();
  const start = async (...args: string[]) => {
    const child = spawn(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'victim', 'victim.ts'),
        suite.db.address,
        ...args,
      ],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    children.add(child);
    child.on('exit', () => children.delete(child));
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    return { child, output: () => output };
  };
  const stop = async (child: ChildProcess) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  afterEach(async () => {
    for (const child of [...children]) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.bigInteger('task_id');
    });
  });
  const all = (type: string, status: string, n: number) => async () =>
    Number((await suite.db.knex('compensate_biz').where({ biz_type: type, status }).count({ n: '*' }))[0]?.n) === n;

  it('loses no row and commits no effect twice, killed at every checkpoint', async () => {
    const biz = suite.create({ step: bizType(any, { retry: every('1s') }) });
    const seed = Number(process.env.HOLDFAST_SEED ?? 7);
    let submitted = 0;
    let kills = 0;
    for (let cycle = 0; cycle < 3; cycle++) {
      for (const [i, checkpoint] of checkpoints.entries()) {
        await biz.now().submitMany(
          'step',
          Array.from({ length: 10 }, (_, n) => ({ n, plain: n % 2 === 0 })),
        );
        await biz.now().submitMany('step', [{ delayed: true }], { delay: 10 });
        submitted += 11;
        const { child } = await start('commit', checkpoint, String(oncePerBatch.has(checkpoint) ? 1 : 1 + ((seed + i + cycle) % 3)));
        const [, signal] = await once(child, 'exit');
        if (signal === 'SIGKILL') kills += 1;
      }
    }
    expect(kills).toBe(3 * checkpoints.length);
    const { child } = await start('commit');
    await until(all('step', 'SUCCESS', submitted), { withinMs: 30_000 });
    await stop(child);
    const rows = await suite.db.knex('effects').groupBy('task_id').select('task_id').count({ n: '*' });
    expect(rows).toHaveLength((submitted / 11) * 6);
    expect(rows.filter((row) => Number(row.n) !== 1)).toEqual([]);
  });

  it('negative control: an effect outside of the commit is seen twice', async () => {
    await suite.db.knex('effects').delete();
    await suite.db.knex('compensate_biz').delete();
    const biz = suite.create({ step: bizType(any) });
    await biz.now().submitMany('step', [{ n: 1 }]);
    const { child } = await start('uncommitted', 'work:before-settle', '1');
    await once(child, 'exit');
    const second = await start('uncommitted');
    await until(all('step', 'SUCCESS', 1));
    await stop(second.child);
    expect((await suite.db.knex('effects').select()).length).toBe(2);
  });

  it('leaves its rows to others within the lease and five seconds, and a row that kills is FAILED alone', async () => {
    const biz = suite.create({ abort: bizType(any, { concurrency: 500, maxLost: 3 }) });
    await biz.now().submitMany(
      'abort',
      Array.from({ length: 500 }, (_, n) => (n === 250 ? { bad: true } : { n })),
    );
    let starts = 0;
    for (; starts < 12; starts++) {
      const { child } = await start('abort');
      const outcome = await Promise.race([
        once(child, 'exit').then(() => 'died'),
        until(all('abort', 'FAILED', 1), { withinMs: 30_000 }).then(() => 'failed'),
      ]);
      if (outcome === 'failed') {
        await until(all('abort', 'SUCCESS', 499), { withinMs: 30_000 });
        await stop(child);
        break;
      }
    }
    expect(await suite.db.knex('compensate_biz').where({ biz_type: 'abort', status: 'FAILED' })).toMatchObject([
      { dead_reason: 'crash-loop', starts: 3 },
    ]);
    expect(await all('abort', 'SUCCESS', 499)()).toBe(true);
  });

  it.each([
    ['a zombie that wakes past its lease commits nothing', 'zombie', 1, 'refused lease-lost'],
    ['negative control: without the fence its effect is there twice', 'unfenced', 2, 'committed'],
  ])('%s', async (_name, mode, effects, said) => {
    await suite.db.knex('effects').delete();
    await suite.db.knex('compensate_biz').delete();
    const biz = suite.create({ zombie: bizType(any) });
    await biz.now().submit('zombie', {});
    const { child, output } = await start(mode);
    await until(() => output().includes('started'));
    child.kill('SIGSTOP');
    biz.handle('zombie', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
    await using worker = biz.worker({ lease: '1s' });
    await worker.start();
    await until(all('zombie', 'SUCCESS', 1));
    child.kill('SIGCONT');
    child.stdin?.write('go\n');
    await until(() => output().includes(said));
    expect(await suite.db.knex('effects').select()).toHaveLength(effects);
  });
});
