import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { coreSchema, migrate, silentLogger, wait } from '@holdfast/core';
import { type TcpProxy, tcpProxy, until } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { servicesRoot } from '../../../tooling/paths.ts';
import { mariadb } from '../../../tooling/services/mariadb.ts';
import { postgres } from '../../../tooling/services/postgres.ts';
import { type ScratchServer, scratchServer } from '../../../tooling/services/scratch.ts';
import { bizType, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

/** Cycles of each fault; `HOLDFAST_CYCLES` makes the lanes long. */
const cycles = Number(process.env.HOLDFAST_CYCLES ?? 5);
/** knex prints each connection that fails; here all of them do. */
const log = { warn: () => undefined, error: () => undefined };
const kinds = [
  { name: 'postgres', client: 'pg', service: postgres },
  { name: 'mariadb', client: 'mysql2', service: mariadb },
] as const;
const available = kinds.filter(({ service }) => process.env[service.variable]);

/** A service under load: rows are submitted, each commits one effect. It must end with one effect for each accepted row. */
async function underLoad(knex: Knex, direct: Knex, disturb: (submitted: () => number) => Promise<void>, timeout: string | number) {
  const biz = createCompensateBiz({
    knex,
    logger: silentLogger,
    statementTimeout: timeout as never,
    types: { shaken: bizType(any, { concurrency: 8, maxLost: 50 }) },
  });
  biz.handle('shaken', (_context, run) => run.commit((trx) => trx('effects').insert({ task_id: run.id })));
  const worker = biz.worker({ lease: '1s', stopAfter: 100 });
  await worker.start();
  const accepted: string[] = [];
  let refused = 0;
  let stop = false;
  const submitting = (async () => {
    while (!stop) {
      await biz
        .now()
        .submit('shaken', {})
        .then(
          ({ id }) => accepted.push(id),
          // Refused or unknown: it was not accepted, and that is all that is promised.
          () => {
            refused += 1;
          },
        );
      await wait(3);
    }
  })();
  await until(() => accepted.length > 20);
  await disturb(() => accepted.length);
  const before = accepted.length;
  const healing = performance.now();
  await until(() => accepted.length > before + 5, { withinMs: 15_000, what: 'submits are accepted again' });
  const healedMs = performance.now() - healing;
  stop = true;
  await submitting;
  await until(async () => Number((await direct('compensate_biz').whereNotIn('status', ['SUCCESS']).count({ n: '*' }))[0]?.n) === 0, {
    withinMs: 30_000,
    what: 'every row ends',
  });
  await worker.stop();
  await biz.close();
  const effects = (await direct('effects').select('task_id')).map((row) => String(row.task_id));
  expect(new Set(effects).size).toBe(effects.length);
  const seen = new Set(effects);
  expect(accepted.filter((id) => !seen.has(id))).toEqual([]);
  return { accepted: accepted.length, refused, healedMs };
}

describe.each(available)('$name', ({ name, client, service }) => {
  let server: ScratchServer;
  let direct: Knex;
  const connect = (url: string): Knex =>
    knexFactory({ client, connection: url, pool: { min: 0, max: 8 }, acquireConnectionTimeout: 5_000, log });
  beforeAll(async () => {
    server = await scratchServer(service, `${name}-unsteady`);
    direct = connect(server.url);
    await migrate(direct, [coreSchema, compensateBizSchema]);
    await direct.schema.dropTableIfExists('effects');
    await direct.schema.createTable('effects', (t) => {
      t.bigInteger('task_id');
    });
  });
  beforeEach(async () => {
    await direct('effects').delete();
    await direct('compensate_biz').delete();
  });
  afterAll(async () => {
    await direct?.destroy();
    await server?.stop();
  });

  it('killed and started again: the host lives, nothing is lost, no effect is there twice', async () => {
    const knex = connect(server.url);
    const figures = await underLoad(
      knex,
      direct,
      async (submitted) => {
        for (let cycle = 0; cycle < cycles; cycle++) {
          const before = submitted();
          await server.kill();
          await wait(200);
          await server.start();
          await until(() => submitted() > before + 10, { withinMs: 15_000 });
        }
      },
      '5s',
    );
    await knex.destroy();
    expect(figures.refused).toBeGreaterThan(0);
    expect(figures.healedMs).toBeLessThan(5_000);
  }, 180_000);

  describe('behind a network that breaks', () => {
    let proxy: TcpProxy;
    let through: Knex;
    beforeAll(async () => {
      const { hostname, port } = new URL(server.url);
      proxy = await tcpProxy({ host: hostname, port: Number(port) });
      const url = new URL(server.url);
      url.port = String(proxy.port);
      through = connect(url.href);
    });
    afterAll(async () => {
      proxy?.set('none');
      await through?.destroy();
      await proxy?.close();
    });

    it.each([
      [
        'stalls for longer than a statement may take',
        async () => {
          proxy.set('stall');
          await wait(1_500);
          proxy.set('none');
        },
      ],
      [
        'passes nothing on in one direction',
        async () => {
          proxy.set('stall-down');
          await wait(1_500);
          proxy.set('none');
        },
      ],
      [
        'closes half of each connection',
        async () => {
          proxy.halfClose();
          await wait(100);
        },
      ],
      [
        'resets each connection in the middle of a reply',
        async () => {
          proxy.cutReplyAfter(20);
          await wait(100);
        },
      ],
      [
        'refuses connections for a while',
        async () => {
          proxy.set('refuse');
          proxy.reset();
          await wait(1_000);
          proxy.set('none');
        },
      ],
    ] as const)(
      '%s: no loop hangs, nothing is lost, no effect is there twice',
      async (_name, fault) => {
        const figures = await underLoad(
          through,
          direct,
          async () => {
            for (let cycle = 0; cycle < cycles; cycle++) {
              await fault();
              await wait(200);
            }
          },
          '1s',
        );
        // The time-out of a statement, and what a pool needs to connect again.
        expect(figures.healedMs).toBeLessThan(6_000);
      },
      120_000,
    );
  });
});

describe.runIf(available.some(({ name }) => name === 'postgres'))('a disk that fills up', () => {
  const name = 'postgres-full-disk';
  const folder = join(servicesRoot, name);
  let server: ScratchServer | undefined;
  let mounted = false;
  afterAll(async () => {
    await server?.stop();
    // Busy for a moment longer than its last process lives.
    if (mounted) await until(() => spawnSync('umount', [folder]).status === 0);
  });

  it('gives errors and no false success, and all goes on when there is room again', async (context) => {
    mkdirSync(folder, { recursive: true });
    mounted = process.getuid?.() === 0 && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', folder]).status === 0;
    if (!mounted) context.skip('a small disk takes the right to mount one');
    server = await scratchServer(postgres, name);
    const knex = knexFactory({ client: 'pg', connection: server.url, pool: { min: 0, max: 8 }, log });
    await migrate(knex, [coreSchema, compensateBizSchema]);
    await knex.schema.createTable('effects', (t) => {
      t.bigInteger('task_id');
    });
    const filler = join(folder, 'filler');
    const figures = await underLoad(
      knex,
      knex,
      async (submitted) => {
        for (let cycle = 0; cycle < Math.min(cycles, 3); cycle++) {
          const before = submitted();
          spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1M'], { stdio: 'ignore' });
          await wait(1_500);
          spawnSync('rm', ['-f', filler]);
          await until(
            async () => {
              if (submitted() > before + 10) return true;
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
      },
      '2s',
    );
    expect(figures.refused).toBeGreaterThan(0);
    await knex.destroy();
  }, 120_000);
});
