import { type BizTypes, bizType, type CompensateBiz, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import { checkpoint, coreSchema, every, setCheckpointHook, silentLogger, wait } from '@holdfast/core';
import type { Knex } from 'knex';
import { z } from 'zod';
import { insist, type Load, leaseMs, tally, type VictimSide } from './load.ts';

const types = {
  step: bizType(z.object({ key: z.string(), plain: z.boolean(), long: z.boolean() }), {
    keep: 'all',
    concurrency: 20,
    retry: every('300ms').upTo(1_000),
    maxLost: 1_000,
  }),
};
type Types = typeof types & BizTypes;

function open(knex: Knex, statementTimeout: '1s' | '5s'): CompensateBiz<Types> {
  return createCompensateBiz({ knex, types: types as Types, statementTimeout, logger: silentLogger });
}

/**
 * Steps are submitted under a key, and retried until they are accepted. Four of five commit their effect together with SUCCESS: exactly one
 * effect is promised. The fifth takes effect outside of the database, at least once.
 */
export const taskLoad: Load = {
  name: 'task',
  schemas: [coreSchema, compensateBizSchema],
  checkpoints: [
    { name: 'work:after-claim' },
    { name: 'work:before-run', hits: 3 },
    { name: 'work:after-run', hits: 3 },
    { name: 'work:before-settle' },
    { name: 'work:after-settle' },
    { name: 'commit:before-settle', hits: 3 },
    { name: 'commit:after', hits: 3 },
    { name: 'promote:after' },
  ],
  controls: [{ mode: 'no-fence', dieAt: 'effect:done', sees: 'duplicated' }],
  async prepare({ knex }) {
    await knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.string('effect_key');
    });
  },
  async feed(world, signal) {
    const biz = open(world.service, world.statementTimeout);
    const one = async (feeder: number): Promise<void> => {
      for (let n = 0; !signal.aborted; n++) {
        const key = `${feeder}-${n}`;
        const context = { key, plain: n % 5 === 4, long: n % 40 === 7 };
        const options = { once: key, ...(n % 11 === 10 ? { delay: 50 } : {}) };
        const taken = await insist(world, signal, () => biz.now().submit('step', context, options));
        if (taken) await world.oracle.notes.note('accepted', [key]);
        // No faster than the slowest database: otherwise a long lane would mostly wait until no work is left.
        await wait(8);
      }
    };
    try {
      await Promise.all([0, 1, 2, 3].map(one));
    } finally {
      await biz.close();
    }
  },
  async quiet({ knex }) {
    const [row] = await knex('compensate_biz').whereNotIn('status', ['SUCCESS', 'FAILED']).count({ n: '*' });
    return Number(row?.n) === 0;
  },
  async judge({ knex, oracle }) {
    const accepted = oracle.read('accepted');
    const inside = tally((await knex('effects').select('effect_key')).map(({ effect_key }) => effect_key as string));
    const outside = tally(oracle.read('effect'));
    return {
      accepted: accepted.length,
      effects: inside.size + outside.size,
      lost: accepted.filter((key) => !inside.has(key) && !outside.has(key)).length,
      duplicated: [...inside.values()].filter((n) => n > 1).length,
      repeated: [...outside.values()].filter((n) => n > 1).length,
      // No row may be given up: every step can succeed.
      wrong: Number((await knex('compensate_biz').where({ status: 'FAILED' }).count({ n: '*' }))[0]?.n),
    };
  },
};

export const taskVictim: VictimSide = async (config, knex, notes) => {
  const biz = open(knex, config.statementTimeout);
  biz.handle('step', async ({ key, plain, long }, run) => {
    await wait(long ? 1.5 * leaseMs : Number(run.id.slice(-1)) * 2);
    if (plain) {
      await notes.note('effect', [key]);
      return undefined;
    }
    if (config.mode === 'no-fence') {
      // Broken on purpose: the effect does not depend on the verdict or on the claim.
      await knex('effects').insert({ effect_key: key });
      await checkpoint('effect:done');
      return undefined;
    }
    return run.commit((trx) => trx('effects').insert({ effect_key: key }));
  });
  deafOnDemand(config.dieAt === undefined);
  const worker = biz.worker({ lease: leaseMs });
  await worker.start();
  return {
    async stop() {
      await worker.stop();
      await biz.close();
    },
  };
};

/** After `deaf` on standard input, this process renews no lease until `hear`. Everything else continues. */
function deafOnDemand(able: boolean): void {
  if (!able) return;
  let hearing = Promise.resolve();
  let hear: () => void = () => undefined;
  process.stdin.on('data', (data) => {
    const words = String(data);
    if (words.includes('deaf'))
      hearing = new Promise((resolve) => {
        hear = resolve;
      });
    if (words.includes('hear')) hear();
  });
  setCheckpointHook((name) => (name === 'work:before-renew' ? hearing : undefined));
}
