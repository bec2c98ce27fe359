import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { every, setCheckpointHook, wait } from '@holdfast/core';
import { seededRandom, until } from '@holdfast/core/testing';
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

  it('loses no row and commits no effect twice, killed at random moments', async () => {
    await suite.db.knex('effects').delete();
    await suite.db.knex('compensate_biz').delete();
    const biz = suite.create({ step: bizType(any, { retry: every('1s') }) });
    const random = seededRandom(Number(process.env.HOLDFAST_SEED ?? 7));
    const cycles = Number(process.env.HOLDFAST_CYCLES ?? 26);
    for (let cycle = 0; cycle < cycles; cycle++) {
      await biz.now().submitMany(
        'step',
        Array.from({ length: 100 }, (_, n) => ({ n })),
      );
      const { child, output } = await start('commit');
      await until(() => output().includes('ready'));
      await wait(random() * 60);
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    const { child } = await start('commit');
    await until(all('step', 'SUCCESS', 100 * cycles), { withinMs: 60_000 });
    await stop(child);
    const rows = await suite.db.knex('effects').groupBy('task_id').select('task_id').count({ n: '*' });
    expect(rows).toHaveLength(100 * cycles);
    expect(rows.filter((row) => Number(row.n) !== 1)).toEqual([]);
  }, 180_000);

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

  it('a worker whose heartbeat alone is cut stops by its own clock, and commits nothing', async () => {
    await suite.db.knex('effects').delete();
    await suite.db.knex('compensate_biz').delete();
    const types = { deaf: bizType(any, { concurrency: 10 }) };
    const [first, second] = [suite.create(types), suite.create(types)];
    const never = new Promise<void>(() => undefined);
    setCheckpointHook((name) => (name === 'work:before-renew' ? never : undefined));
    try {
      const refused: unknown[] = [];
      let aborted = 0;
      first.handle('deaf', async (_context, run) => {
        if (run.attempt === 1) {
          run.signal.addEventListener('abort', () => {
            aborted += 1;
          });
          await wait(2_500);
        }
        await run.commit((trx) => trx('effects').insert({ task_id: run.id })).catch((error) => refused.push(error.code));
      });
      second.handle('deaf', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
      await using deaf = first.worker({ lease: '1s' });
      await deaf.start();
      await first.now().submitMany(
        'deaf',
        Array.from({ length: 10 }, () => ({})),
      );
      await until(() => deaf.inFlight === 10);
      await until(() => aborted === 10, { withinMs: 2_000 });
      expect(refused).toEqual([]);
      await using healthy = second.worker({ lease: '1s' });
      await healthy.start();
      await until(all('deaf', 'SUCCESS', 10));
      await until(() => refused.length === 10);
      expect(new Set(refused)).toEqual(new Set(['lease-lost']));
      expect(await suite.db.knex('effects').select()).toHaveLength(10);
    } finally {
      setCheckpointHook(undefined);
    }
  });

  it.each([
    ['a zombie that wakes past its lease commits nothing', 'zombie', 1, 'refused lease-lost'],
    ['negative control: without the fence its effect is there twice', 'unfenced', 2, 'committed'],
  ])('%s', async (_name, mode, effects, said) => {
    await suite.db.knex('effects').delete();
    await suite.db.knex('compensate_biz').delete();
    const biz = suite.create({ zombie: bizType(any, { concurrency: 20 }) });
    await biz.now().submitMany(
      'zombie',
      Array.from({ length: 20 }, () => ({})),
    );
    const { child, output } = await start(mode);
    const said20 = (what: string) => () => output().split(what).length - 1 === 20;
    await until(said20('started'));
    child.kill('SIGSTOP');
    biz.handle('zombie', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
    await using worker = biz.worker({ lease: '1s' });
    await worker.start();
    await until(all('zombie', 'SUCCESS', 20));
    child.kill('SIGCONT');
    child.stdin?.write('go\n');
    await until(said20(said));
    expect(await suite.db.knex('effects').select()).toHaveLength(20 * effects);
  });
});
