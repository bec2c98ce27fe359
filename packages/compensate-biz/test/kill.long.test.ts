import { join } from 'node:path';
import { setCheckpointHook, wait } from '@holdfast/core';
import { until, Victims } from '@holdfast/core/testing';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase('a worker that is killed', (suite) => {
  const victims = new Victims(join(import.meta.dirname, 'victim', 'victim.ts'));
  afterEach(() => victims.end());
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.bigInteger('task_id');
    });
  });
  const all = (type: string, status: string, n: number) => async () =>
    Number((await suite.db.knex('compensate_biz').where({ biz_type: type, status }).count({ n: '*' }))[0]?.n) === n;

  it('leaves its rows to others within the lease and five seconds, and a row that kills is FAILED alone', async () => {
    const biz = suite.create({ abort: bizType(any, { concurrency: 500, maxLost: 3 }) });
    await biz.now().submitMany(
      'abort',
      Array.from({ length: 500 }, (_, n) => (n === 250 ? { bad: true } : { n })),
    );
    let starts = 0;
    for (; starts < 12; starts++) {
      const victim = victims.start(suite.db.address, 'abort');
      const outcome = await Promise.race([
        victim.ended.then(() => 'died'),
        until(all('abort', 'FAILED', 1), { withinMs: 30_000 }).then(() => 'failed'),
      ]);
      if (outcome === 'failed') {
        await until(all('abort', 'SUCCESS', 499), { withinMs: 30_000 });
        await victim.end('SIGTERM');
        break;
      }
    }
    expect(await suite.db.knex('compensate_biz').where({ biz_type: 'abort', status: 'FAILED' })).toMatchObject([
      { dead_reason: 'crash-loop', starts: 3 },
    ]);
    expect(await all('abort', 'SUCCESS', 499)()).toBe(true);
  });

  it('leaves the fan-out that it cancels to others, which go on where it stopped', async () => {
    const biz = suite.create({ cut: bizType(any) });
    const n = 4_500;
    const { parentId } = await biz.fanOut(
      'cut',
      Array.from({ length: n }, (_, i) => ({ i })),
      { key: 'cut' },
    );
    await suite.db.knex.transaction((trx) => biz.in(trx).cancel({ id: parentId }));
    const victim = victims.start(suite.db.address, 'step', 'fan-out:after-cancel-chunk', 2);
    expect((await victim.ended).signal).toBe('SIGKILL');
    const cancelled = await suite.db.knex('compensate_biz').where({ biz_type: 'cut', status: 'CANCELLED' });
    expect(cancelled.length).toBeGreaterThanOrEqual(2_000);
    expect(cancelled.length).toBeLessThan(n);
    biz.handle('cut', () => undefined);
    await using worker = biz.worker({ types: ['cut'] });
    await worker.start();
    const context = async () => JSON.parse((await suite.db.knex('compensate_biz').where({ id: parentId }).first()).context);
    const counts = await until(async () => ((await context()).total === n ? context() : undefined));
    // The others ran before their turn to be cancelled came.
    expect(counts.done + counts.cancelled).toBe(n);
    expect(await biz.sweep()).toMatchObject({ cancelled: 0, completed: 0 });
    expect(await suite.db.knex('compensate_biz').where({ id: parentId }).first()).toMatchObject({ status: 'CANCELLED' });
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
    const victim = victims.start(suite.db.address, mode);
    const said20 = (what: string) => () => victim.output().split(what).length - 1 === 20;
    await until(said20('started'));
    victim.signal('SIGSTOP');
    biz.handle('zombie', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
    await using worker = biz.worker({ lease: '1s' });
    await worker.start();
    await until(all('zombie', 'SUCCESS', 20));
    victim.signal('SIGCONT');
    victim.say('go');
    await until(said20(said));
    expect(await suite.db.knex('effects').select()).toHaveLength(20 * effects);
  });
});
