import { once } from 'node:events';
import { testDialects, until } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { freePort, onProcesses, type Started } from './processes.ts';

describe.each(testDialects())('processes of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);
  /** With a room of its own, that outlives them. */
  const room = async () => {
    const port = await freePort();
    const env = { DISPATCH_MACHINES: '200', DISPATCH_RECONCILE_SECONDS: '1', DISPATCH_BILLING_SECONDS: '1', PORT: String(port) };
    const { address } = await processes.start(env, 'room', '--port', '0', '--service', `http://127.0.0.1:${port}`);
    return { ...env, DISPATCH_ROOM_URL: address };
  };
  const apply = ({ call }: Started, businessOrderNo: string, count: number) =>
    call('POST', '/v1/batches', { businessOrderNo, packageId: 'standard', count, minimum: 1, applyDurationMinutes: 1 });
  const granted = async () =>
    Number((await processes.db.knex('dispatch_slot').whereIn('state', ['GRANTED', 'STARTING', 'RUNNING']).count({ n: '*' }))[0]?.n);

  it('share the work: a second one started with --worker goes on when the first is killed', async () => {
    const env = await room();
    const first = await processes.start(env);
    await processes.start(env, '--worker');
    for (let i = 0; i < 10; i++) expect((await apply(first, `order-${i}`, 5)).status).toBe(202);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    // What the first one held is rescued when its lease is over.
    await until(async () => (await granted()) === 50, { withinMs: 60_000 });
    const machines = (await processes.db.knex('dispatch_lease').where({ active: 1 }).select('machine_id')).map((row) => row.machine_id);
    expect(new Set(machines).size).toBe(50);
  });

  it('end in good order, and what was accepted goes on at the next start', async () => {
    const env = await room();
    const first = await processes.start(env);
    await apply(first, 'before', 30);
    first.child.kill('SIGTERM');
    expect(await once(first.child, 'exit')).toEqual([0, null]);
    const second = await processes.start(env);
    await until(async () => (await granted()) === 30, { withinMs: 30_000 });
    const again = await apply(second, 'before', 30);
    expect(again.status).toBe(202);
    expect(await processes.db.knex('dispatch_batch')).toHaveLength(1);
  });

  it('lose nothing that they have answered 202, at whatever moment they are told to end or killed', async () => {
    const env = await room();
    const accepted = new Map<string, string>();
    let orders = 0;
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
      const service = await processes.start(env);
      let over = false;
      const customer = async () => {
        while (!over) {
          const businessOrderNo = `load-${orders++}`;
          const answer = await apply(service, businessOrderNo, 1).catch(() => undefined);
          if (answer?.status === 202) accepted.set(businessOrderNo, answer.body.id);
          // Full: what is asked for next is what matters, not that it is granted.
          else if (answer && answer.status !== 409 && answer.status !== 503) expect(answer).toBe('accepted or refused with a reason');
        }
      };
      const customers = Array.from({ length: 4 }, customer);
      const enough = accepted.size + 15;
      await until(() => accepted.size >= enough || orders > 400, { withinMs: 30_000, what: 'some are accepted' });
      service.child.kill(signal);
      await once(service.child, 'exit');
      over = true;
      await Promise.all(customers);
    }
    const last = await processes.start(env);
    const { knex } = processes.db;
    const ids = new Set((await knex('dispatch_batch').select('id')).map(({ id }) => String(id)));
    expect([...accepted.values()].filter((id) => !ids.has(id))).toEqual([]);
    await until(async () => (await knex('dispatch_batch').whereNull('result').first()) === undefined, {
      withinMs: 90_000,
      what: 'every batch has its result',
    });
    // Each has its slots, its message and its task.
    const [slots] = await knex('dispatch_slot').count({ n: '*' });
    expect(Number(slots?.n)).toBe(ids.size);
    const heard = async () =>
      Number(
        (await knex('dispatch_event').where({ type: 'batch.changed' }).where('data', 'like', '%ACCEPTED%').count({ n: '*' }).first())?.n,
      );
    await until(async () => (await heard()) === ids.size, { withinMs: 30_000, what: 'all are heard of' });
    const broken = async () =>
      (await last.call('GET', '/v1/invariants', undefined, 'admin')).body.invariants.filter(({ holds }: { holds: boolean }) => !holds);
    expect(await broken()).toEqual([]);
  }, 240_000);
});
