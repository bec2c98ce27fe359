import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { median } from '../report/report.ts';
import type { BenchOptions } from '../tasks.ts';
import { acceptLatency, acceptRate, fillRate } from './load.ts';
import { type ServiceUnderTest, startService } from './service.ts';

interface Figures {
  readonly accepted: number;
  readonly p50: number;
  readonly p99: number;
  /** At 200 orders per second. */
  readonly calmP99: number;
  readonly slots: number;
}

const small = { machines: 30_000, slots: 0 };
const large = { machines: 100_000, slots: 1_000_000 };

/**
 * The reference service on Postgres: orders accepted per second, the time to accept one at half of that rate, and slots per second from the
 * order until they run, with their messages and callbacks written. Then the same with a hundred thousand machines and a million slots in
 * the database. Service, room, load and database share the machine.
 */
export async function dispatch(options: BenchOptions): Promise<void> {
  const postgres = testDialects().find(({ name }) => name === 'postgres');
  if (!postgres) throw new Error('postgres is not up; run npm run services:up and set its address');
  const results: Record<string, Figures> = {};
  for (const [name, size] of Object.entries({ small, large })) {
    if (options.only && !options.only.has(`dispatch-${name}`)) continue;
    const db = await postgres.create();
    try {
      const figures = await measure(db, size, Math.min(3, options.rounds));
      results[name] = figures;
      if (options.json)
        console.log(
          JSON.stringify({
            bench: `dispatch-${name}/postgres`,
            machines: size.machines,
            slotsBefore: size.slots,
            ordersAcceptedPerSecond: Math.round(figures.accepted),
            p50AtHalfOfThatMs: Math.round(figures.p50),
            p99AtHalfOfThatMs: Math.round(figures.p99),
            p99At200PerSecondMs: Math.round(figures.calmP99),
            slotsPerSecond: Math.round(figures.slots),
          }),
        );
      else
        console.log(
          `dispatch/postgres with ${size.machines.toLocaleString('en')} machines and ${size.slots.toLocaleString('en')} slots there: ${figures.accepted.toFixed(0)} orders/s accepted; at half of it p50 ${figures.p50.toFixed(1)} ms, p99 ${figures.p99.toFixed(1)} ms; at 200/s p99 ${figures.calmP99.toFixed(1)} ms; ${figures.slots.toFixed(0)} slots/s from wanted to running`,
        );
    } finally {
      await db.drop();
    }
  }
  const { small: one, large: two } = results;
  if (one && two && !options.json)
    console.log(
      `the large one does ${(two.accepted / one.accepted).toFixed(2)} of the orders and ${(two.slots / one.slots).toFixed(2)} of the slots`,
    );
}

async function measure(db: TestDatabase, size: typeof small, rounds: number): Promise<Figures> {
  const using = async <T>(roles: string, run: (service: ServiceUnderTest) => Promise<T>): Promise<T> => {
    const service = await startService(db, { roles, machines: size.machines });
    try {
      return await run(service);
    } finally {
      await service.stop();
    }
  };
  await using('api', (service) => fill(service.knex, size.slots));
  const filled = await using('api,worker', async (service) => {
    await fillRate(service, 10, 50);
    const rates: number[] = [];
    for (let i = 0; i < rounds; i++) rates.push(await fillRate(service, 100, 50));
    return median(rates);
  });
  // No machines are free for these orders: only their acceptance is measured.
  return using('api', async (service) => {
    await acceptRate(service, 2);
    const rates: number[] = [];
    for (let i = 0; i < rounds; i++) rates.push(await acceptRate(service, 5));
    const accepted = median(rates);
    const took = await acceptLatency(service, Math.round(accepted / 2), 10);
    const at = (share: number): number => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? Number.NaN;
    const [p50, p99] = [at(0.5), at(0.99)];
    const calm = await acceptLatency(service, 200, 10);
    const calmP99 = calm[Math.floor(calm.length * 0.99)] ?? Number.NaN;
    return { accepted, p50, p99, calmP99, slots: filled };
  });
}

/** Inserts slots of finished orders, with the leases that they had. */
async function fill(knex: Knex, slots: number): Promise<void> {
  if (slots === 0) return;
  const perBatch = 50;
  const batches = slots / perBatch;
  await knex.raw(
    "INSERT INTO dispatch_batch (id, tenant, business_order_no, fingerprint, package_id, price_version, policy, wanted, minimum, state, result, passes, deadline_ms, started_ms, created_ms, finished_ms, ended_ms) SELECT (1000000000 + b)::text, 'bench', 'old-' || b, repeat('0', 64), 'standard', 1, 'min_then_fill', ?, 1, 'ENDED', 'FULFILLED', 1, 1, 1, 1, 1, 1 FROM generate_series(1, ?) AS b",
    [perBatch, batches],
  );
  await knex.raw(
    "INSERT INTO dispatch_slot (apply_id, batch_id, tenant, state, desired, lease_id, machine_id, news, changed_ms) SELECT (2000000000 + s)::text, (1000000001 + (s - 1) / ?)::text, 'bench', 'ENDED', 'ON', (4000000000 + s)::text, 'm-' || lpad((1 + s % 100000)::text, 6, '0'), 3, 1 FROM generate_series(1, ?) AS s",
    [perBatch, slots],
  );
  await knex.raw(
    "INSERT INTO dispatch_lease (id, apply_id, batch_id, tenant, machine_id, room, ip, package_id, price_version, epoch, active, state, power, held_ms, granted_ms, releasing_ms, released_ms, billed_to_ms, billed_ms, charges) SELECT (4000000000 + s)::text, (2000000000 + s)::text, (1000000001 + (s - 1) / ?)::text, 'bench', 'm-' || lpad((1 + s % 100000)::text, 6, '0'), 'room-1', '10.0.0.1', 'standard', 1, 0, NULL, 'RELEASED', 'OFF', 1, 1, 1, 1, 1, 1000, 1 FROM generate_series(1, ?) AS s",
    [perBatch, slots],
  );
  await knex.raw('ANALYZE');
}
