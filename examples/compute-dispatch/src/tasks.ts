import { bizType, type CompensateBiz } from '@holdfast/compensate-biz';
import { every } from '@holdfast/core';
import type { Knex } from 'knex';
import { z } from 'zod';

/** The tasks of the service. None of them gives up: a batch must end however long the database or the room is unavailable. */
export const taskTypes = {
  /** Fills a batch: runs again until the filling has ended. */
  allocate: bizType(z.object({ batchId: z.string() }), { concurrency: 64, retry: every('2s'), timeout: '30s', keep: '1h', maxLost: 1_000 }),
  /** Asks the room to switch machines. */
  power: bizType(z.object({ leaseIds: z.array(z.string()), to: z.enum(['ON', 'OFF']) }), {
    concurrency: 64,
    retry: every('2s'),
    timeout: '30s',
    keep: '1h',
    maxLost: 1_000,
  }),
  /** Asks the room to release machines. */
  release: bizType(z.object({ leaseIds: z.array(z.string()) }), {
    concurrency: 64,
    retry: every('2s'),
    timeout: '30s',
    keep: '1h',
    maxLost: 1_000,
  }),
  /** Ends a batch, if all its slots have ended. */
  finish: bizType(z.object({ batchId: z.string() }), { concurrency: 64, retry: every('2s'), keep: '1h', maxLost: 1_000 }),
};

export type Biz = CompensateBiz<typeof taskTypes>;

/** Submits tasks that exist once the transaction commits. */
export interface Tasks {
  allocate(trx: Knex.Transaction, batches: readonly { readonly id: string; readonly tenant: string }[]): Promise<void>;
  power(trx: Knex.Transaction, leaseIds: readonly string[], to: 'ON' | 'OFF', delayMs?: number): Promise<void>;
  release(trx: Knex.Transaction, leaseIds: readonly string[]): Promise<void>;
  finish(trx: Knex.Transaction, batchIds: readonly string[]): Promise<void>;
}

/** The number of leases in one task: few enough for one request to the room. */
const perTask = 200;

export function tasksOf(biz: Biz): Tasks {
  const portions = (leaseIds: readonly string[]): string[][] => {
    const all: string[][] = [];
    for (let from = 0; from < leaseIds.length; from += perTask) all.push(leaseIds.slice(from, from + perTask));
    return all;
  };
  return {
    async allocate(trx, batches) {
      const tenants = new Map(batches.map(({ id, tenant }) => [id, tenant]));
      await biz.in(trx).submitMany(
        'allocate',
        batches.map(({ id }) => ({ batchId: id })),
        ({ batchId }) => ({ bizId: batchId, subject: batchId, tenant: tenants.get(batchId) ?? '' }),
      );
    },
    async power(trx, leaseIds, to, delayMs = 0) {
      await biz.in(trx).submitMany(
        'power',
        portions(leaseIds).map((some) => ({ leaseIds: some, to })),
        { delay: delayMs },
      );
    },
    async release(trx, leaseIds) {
      await biz.in(trx).submitMany(
        'release',
        portions(leaseIds).map((some) => ({ leaseIds: some })),
      );
    },
    async finish(trx, batchIds) {
      await biz.in(trx).submitMany(
        'finish',
        batchIds.map((batchId) => ({ batchId })),
        ({ batchId }) => ({ bizId: batchId, subject: batchId }),
      );
    },
  };
}
