import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { EndpointTable } from '../src/endpoint/endpoint-table.ts';
import { wakeEndpoints } from '../src/endpoint/wake-endpoints.ts';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase('a hundred thousand endpoints', (suite) => {
  it('cost the next pick under 10 ms, whether they sleep, wait or are ready', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const { knex } = suite.db;
    const add = async (status: string, n: number): Promise<void> => {
      for (let from = 0; from < n; from += 400)
        await knex('notifier_endpoint').insert(
          Array.from({ length: 400 }, (_, i) => ({
            tenant: `${status}-${from + i}`,
            origin: 'https://example.com',
            status,
            run_at: status === 'WAITING' ? 9_000_000_000_000 : null,
            claim_rank: from + i,
          })),
        );
    };
    await add('IDLE', 40_000);
    await add('WAITING', 30_000);
    await add('READY', 30_000);
    if (suite.db.name === 'postgres') await knex.raw('ANALYZE notifier_endpoint');
    const { database } = notifier;
    const { work } = new EndpointTable(database);
    /** Of fifteen times the third: what else runs on the machine is not meant. */
    const timed = async (run: () => Promise<unknown>): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < 15; i++) {
        const started = performance.now();
        await run();
        times.push(performance.now() - started);
      }
      return times.sort((a, b) => a - b)[2] ?? 0;
    };
    expect(await timed(() => work.claim({ kind: '', group: '', limit: 50, owner: 'o', leaseMs: 60_000 }))).toBeLessThan(10);
    expect(await timed(() => work.ready())).toBeLessThan(10);
    expect(await timed(() => work.promote())).toBeLessThan(10);
    expect(await timed(() => work.nextDueMs())).toBeLessThan(10);
    expect(
      await timed(async () => {
        await notifier.now().trigger(event(receiver.url));
        await wakeEndpoints(database, work);
      }),
    ).toBeLessThan(suite.db.name === 'sqlite' ? 20 : 40);
    // And one of them all is heard of at once.
    await knex('notifier_endpoint').whereNot({ tenant: '' }).update({ status: 'IDLE', lease_until: null });
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(() => receiver.requests.length === 15);
    const started = performance.now();
    await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 16);
    expect(performance.now() - started).toBeLessThan(500);
  });
});
