import { once } from 'node:events';
import { testDialects, until } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { onProcesses } from './processes.ts';

describe.each(testDialects())('processes of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);
  const start = (...args: string[]) => processes.start({ DISPATCH_MACHINES: '200' }, ...args);
  const apply = (address: string, businessOrderNo: string, count: number) =>
    fetch(`${address}/v1/batches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ businessOrderNo, packageId: 'standard', count, minimum: 1 }),
    });
  const granted = async () => Number((await processes.db.knex('dispatch_slot').whereNotNull('machine_id').count({ n: '*' }))[0]?.n);

  it('share the work: a second one started with --worker goes on when the first is killed', async () => {
    const first = await start();
    await start('--worker');
    for (let i = 0; i < 10; i++) expect((await apply(first.address, `order-${i}`, 5)).status).toBe(202);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    // What the first one held is rescued when its lease is over.
    await until(async () => (await granted()) === 50, { withinMs: 60_000 });
    const machines = (await processes.db.knex('dispatch_slot').whereNotNull('machine_id').select('machine_id')).map(
      (row) => row.machine_id,
    );
    expect(new Set(machines).size).toBe(50);
  });

  it('end in good order, and what was accepted goes on at the next start', async () => {
    const first = await start();
    await apply(first.address, 'before', 30);
    first.child.kill('SIGTERM');
    expect(await once(first.child, 'exit')).toEqual([0, null]);
    const second = await start();
    await until(async () => (await granted()) === 30, { withinMs: 30_000 });
    const again = await apply(second.address, 'before', 30);
    expect(again.status).toBe(202);
    expect(await processes.db.knex('dispatch_batch')).toHaveLength(1);
  });
});
