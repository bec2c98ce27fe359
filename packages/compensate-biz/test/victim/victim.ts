// A worker process that tests kill. Arguments: the database's address, what to do, and the checkpoint to die at.

import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { every, setCheckpointHook, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { bizType, createCompensateBiz } from '../../src/index.ts';
import { any } from '../suite-schema.ts';

const [address = '', mode = 'commit', dieAt = '', hits = '1', log = ''] = process.argv.slice(2);
let left = Number(hits);
if (dieAt !== '') {
  setCheckpointHook((name) => {
    if (name === dieAt && --left === 0) process.kill(process.pid, 'SIGKILL');
  });
}
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
biz.handle('step', async (context, run) => {
  if (log) appendFileSync(log, `${run.id}\n`);
  if (mode === 'uncommitted') {
    // The negative control: the effect is not tied to the verdict.
    await knex('effects').insert({ task_id: run.id });
    return undefined;
  }
  // Settled by the worker, in a batch with others.
  if (context.plain) return undefined;
  return run.commit((trx) => trx('effects').insert({ task_id: run.id }));
});
biz.handle('abort', async (context) => {
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (context.bad) process.kill(process.pid, 'SIGKILL');
});
const go = once(process.stdin, 'data');
biz.handle('zombie', async (_context, run) => {
  process.stdout.write('started\n');
  await go;
  try {
    if (mode === 'unfenced') await knex('effects').insert({ task_id: run.id });
    else await run.commit((trx) => trx('effects').insert({ task_id: run.id }));
    process.stdout.write('committed\n');
  } catch (error) {
    process.stdout.write(`refused ${(error as { code?: string }).code}\n`);
  }
});
biz.handle('load', () => undefined);
biz.handle('load-slow', () => new Promise((resolve) => setTimeout(resolve, 500)));
const worker = biz.worker({
  lease: '1s',
  types: [mode === 'unfenced' ? 'zombie' : mode in biz.types ? mode : 'step'],
});
await worker.start();
process.stdout.write('ready\n');
process.on('SIGTERM', async () => {
  await worker.stop();
  await biz.close();
  await knex.destroy();
  process.exit(0);
});
