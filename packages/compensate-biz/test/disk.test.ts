import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { coreSchema, migrate, silentLogger, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { afterEach, describe, expect, it } from 'vitest';
import { servicesRoot } from '../../../tooling/paths.ts';
import { postgres } from '../../../tooling/services/postgres.ts';
import { type ScratchServer, scratchName, scratchServer } from '../../../tooling/services/scratch.ts';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);
/** knex prints each connection that fails; here all of them do. */
const log = { warn: () => undefined, error: () => undefined };
describe.runIf(process.env[postgres.variable])('a disk that fills up', () => {
  const name = 'postgres-full-disk';
  const folder = join(servicesRoot, scratchName(name));
  let server: ScratchServer | undefined;
  let mounted = false;
  // After each try, or a second one would mount its disk over the first.
  afterEach(async () => {
    await server?.stop();
    server = undefined;
    // Busy for a moment longer than its last process lives.
    if (mounted) await until(() => spawnSync('umount', [folder]).status === 0);
    mounted = false;
  });

  it('gives errors and no false success, and all goes on when there is room again', async (context) => {
    mkdirSync(folder, { recursive: true });
    mounted = process.getuid?.() === 0 && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', folder]).status === 0;
    if (!mounted) context.skip('a small disk takes the right to mount one');
    server = await scratchServer(postgres, name);
    const knex = knexFactory({ client: 'pg', connection: server.url, pool: { min: 0, max: 8 }, log });
    await migrate(knex, [coreSchema, compensateBizSchema]);
    await knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.bigInteger('task_id');
    });
    const filler = join(folder, 'filler');
    const biz = createCompensateBiz({
      knex,
      logger: silentLogger,
      statementTimeout: '2s',
      types: { shaken: bizType(any, { concurrency: 8, maxLost: 50 }) },
    });
    biz.handle('shaken', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
    const worker = biz.worker({ lease: '1s', stopTimeout: 100 });
    await worker.start();
    const accepted: string[] = [];
    let refused = 0;
    let stop = false;
    const submitting = (async () => {
      while (!stop) {
        // Refused or unknown: it was not accepted, and that is all that is promised.
        const submitted = await biz
          .now()
          .submit('shaken', {})
          .catch(() => undefined);
        if (submitted) accepted.push(submitted.id);
        else refused += 1;
        await wait(3);
      }
    })();
    await until(() => accepted.length > 20);
    for (let cycle = 0; cycle < cycles; cycle++) {
      const before = accepted.length;
      spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1M'], { stdio: 'ignore' });
      await wait(1_500);
      spawnSync('rm', ['-f', filler]);
      await until(
        async () => {
          if (accepted.length > before + 10) return true;
          // Postgres ends itself when it can't write its log; then somebody has to start it again.
          const answers = await knex.raw('SELECT 1').then(
            () => true,
            () => false,
          );
          if (!answers) await server?.start().catch(() => undefined);
          await wait(200);
          return false;
        },
        { withinMs: 40_000 },
      );
    }
    stop = true;
    await submitting;
    const open = async () => Number((await knex('compensate_biz').whereNot({ status: 'SUCCESS' }).count({ n: '*' }))[0]?.n);
    await until(async () => (await open()) === 0, { withinMs: 30_000, what: 'every row ends' });
    await worker.stop();
    await biz.close();
    const effects = (await knex('effects').select('task_id')).map((row) => String(row.task_id));
    const seen = new Set(effects);
    expect(seen.size).toBe(effects.length);
    expect(accepted.filter((id) => !seen.has(id))).toEqual([]);
    expect(refused).toBeGreaterThan(0);
    await knex.destroy();
  }, 120_000);
});
