import { concat } from '@holdfast/core';
import { numbers, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { EndpointTable } from '../src/endpoint/endpoint-table.ts';
import { wakeEndpoints } from '../src/endpoint/wake-endpoints.ts';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase('a hundred thousand endpoints', (suite) => {
  it('cost the next pick about what a thousand do, whether they sleep, wait or are ready', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const { knex } = suite.db;
    const { database } = notifier;
    let added = 0;
    const add = async (status: string, count: number): Promise<void> => {
      const tenant = concat(database, `'${status}-'`, `(n + ${added})`);
      const runAt = status === 'WAITING' ? '9000000000000' : 'NULL';
      await knex.raw(
        `INSERT INTO notifier_endpoint (tenant, origin, status, run_at, claim_rank) SELECT ${tenant}, 'https://example.com', '${status}', ${runAt}, n + ${added} FROM (${numbers(count)}) numbers`,
      );
      added += count;
    };
    const { work } = new EndpointTable(database);
    const calls = {
      claim: () => work.claim({ kind: '', group: '', limit: 50, owner: 'o', leaseMs: 60_000 }),
      ready: () => work.ready(),
      promote: () => work.promote(),
      nextDue: () => work.nextDueMs(),
      trigger: async () => {
        await notifier.now().trigger(event(receiver.url));
        await wakeEndpoints(database, work);
      },
    };
    /** The third of fifteen times in ms, so that what else runs on the machine does not count. */
    const timed = async (run: () => Promise<unknown>): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < 15; i++) {
        const started = performance.now();
        await run();
        times.push(performance.now() - started);
      }
      return times.sort((a, b) => a - b)[2] ?? 0;
    };
    const measured = async (): Promise<readonly number[]> => {
      if (suite.db.name === 'postgres') await knex.raw('ANALYZE notifier_endpoint');
      const times: number[] = [];
      for (const call of Object.values(calls)) times.push(await timed(call));
      return times;
    };
    // Claims below take 750 rows of them.
    for (const status of ['IDLE', 'WAITING', 'READY']) await add(status, 1_000);
    const few = await measured();
    for (const [status, n] of [
      ['IDLE', 40_000],
      ['WAITING', 30_000],
      ['READY', 30_000],
    ] as const)
      await add(status, n);
    const many = await measured();
    // A read of the table would take 30 times as long.
    for (const [i, name] of Object.keys(calls).entries())
      expect(many[i], `${name}: ${few[i]} ms among few`).toBeLessThan(2 * (few[i] ?? 0) + 5);
    // And one of them all is heard of at once.
    await knex('notifier_endpoint').whereNot({ tenant: '' }).update({ status: 'IDLE', lease_until: null });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(() => receiver.requests.length === 30);
    const started = performance.now();
    await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 31);
    expect(performance.now() - started).toBeLessThan(500);
  });
});
