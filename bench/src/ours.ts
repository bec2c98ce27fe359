import { bizType, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import { type Backoff, coreSchema, every, migrate, silentLogger } from '@holdfast/core';
import type { Knex } from 'knex';

/** A schema that accepts anything, so that no schema library is measured. */
const anything = {
  '~standard': { version: 1 as const, vendor: 'bench', validate: (value: unknown) => ({ value: value as Record<string, unknown> }) },
};

const retry: Backoff = every('1s').upTo(3);

export interface OursOptions {
  readonly keep: 'all' | 'none';
  readonly concurrency?: number;
}

/** Our registry on a database of its own, with one type `step`. */
export async function ours(knex: Knex, options: OursOptions) {
  await migrate(knex, [coreSchema, compensateBizSchema]);
  return createCompensateBiz({
    knex,
    logger: silentLogger,
    types: {
      step: bizType(anything, { keep: options.keep, concurrency: options.concurrency ?? 100, retry }),
      grant: bizType(anything, { keep: 'none', concurrency: 2, retry }),
    },
  });
}

/** Runs `n` rows that exist already. Returns rows per second, from the start of the worker to the last settle. */
export async function drain(biz: Awaited<ReturnType<typeof ours>>, n: number): Promise<number> {
  let done = 0;
  let finished: () => void = () => undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  if (!biz.handlers.has('step')) biz.handle('step', () => undefined);
  const off = biz.events.on('task:succeeded', () => {
    if (++done === n) finished();
  });
  const worker = biz.worker();
  await worker.start();
  const started = performance.now();
  biz.wake();
  await all;
  const seconds = (performance.now() - started) / 1000;
  off();
  await worker.stop();
  return n / seconds;
}
