// A worker process that tests kill. Arguments: the database's address, what to do, the checkpoint to die at, at which time it is reached,
// and the file to which it writes what it ran.

import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { every, silentLogger } from '@holdfast/core';
import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { bizType, createCompensateBiz } from '../../src/index.ts';
import { any } from '../suite-schema.ts';

const [address = '', mode = 'step', dieAt = '', hits = '1', log = ''] = process.argv.slice(2);
dieAtCheckpoint(dieAt, hits);
const knex = connectTestDatabase(address);
const biz = createCompensateBiz({
  knex,
  logger: silentLogger,
  types: {
    step: bizType(any, { keep: 'all', concurrency: 20, retry: every('1s').upTo(50), maxLost: 50 }),
    abort: bizType(any, { concurrency: 500, maxLost: 3 }),
    zombie: bizType(any, { concurrency: 20 }),
    load: bizType(any, { keep: 'all', concurrency: 100 }),
    'load-slow': bizType(any, { keep: 'all', concurrency: 100 }),
  },
});
biz.handle('step', (_context, run) => {
  if (log) appendFileSync(log, `${run.id}\n`);
});
biz.handle('abort', async (context) => {
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (context.bad) process.kill(process.pid, 'SIGKILL');
});
const go = once(process.stdin, 'data');
biz.handle('zombie', async (_context, run) => {
  process.stdout.write('started\n');
  await go;
  const effect = (executor: Knex) => executor('effects').insert({ task_id: run.id });
  try {
    // Unfenced is the negative control: the effect is not tied to the verdict.
    await (mode === 'unfenced' ? effect(knex) : run.commit(effect));
    process.stdout.write('committed\n');
  } catch (error) {
    process.stdout.write(`refused ${(error as { code?: string }).code}\n`);
  }
});
biz.handle('load', () => undefined);
biz.handle('load-slow', () => new Promise((resolve) => setTimeout(resolve, 500)));
const worker = biz.worker({ lease: '1s', types: [mode === 'unfenced' ? 'zombie' : (mode as keyof typeof biz.types)] });
await worker.start();
process.stdout.write('ready\n');
process.on('SIGTERM', async () => {
  await worker.stop();
  await biz.close();
  await knex.destroy();
  process.exit(0);
});
