import { until } from '@holdfast/core/testing';
import type { ServiceUnderTest } from './service.ts';

const slotsPerOrder = 4;

/** Places orders of a few slots each, by several customers who each wait for their answer. Returns accepted orders per second. */
export async function acceptRate(service: ServiceUnderTest, seconds: number, customers: number = 64): Promise<number> {
  let accepted = 0;
  const started = performance.now();
  const customer = async (): Promise<void> => {
    while (performance.now() - started < seconds * 1_000) {
      const { status, body } = await service.order(slotsPerOrder);
      if (status !== 202) throw new Error(`an order was answered ${status}: ${JSON.stringify(body)}`);
      accepted += 1;
    }
  };
  await Promise.all(Array.from({ length: customers }, customer));
  return accepted / ((performance.now() - started) / 1_000);
}

/** Places orders at a steady rate, each at its time, whether or not earlier ones were answered. Returns the times until the answers, in ms. */
export async function acceptLatency(service: ServiceUnderTest, perSecond: number, seconds: number): Promise<readonly number[]> {
  const took: number[] = [];
  const waiting: Promise<void>[] = [];
  const started = performance.now();
  for (let n = 0; n < perSecond * seconds; n++) {
    const dueMs = started + (n * 1_000) / perSecond;
    const pauseMs = dueMs - performance.now();
    if (pauseMs > 1) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    waiting.push(
      service.order(slotsPerOrder).then(({ status }) => {
        if (status !== 202) throw new Error(`an order was answered ${status}`);
        took.push(performance.now() - dueMs);
      }),
    );
  }
  await Promise.all(waiting);
  return took.sort((a, b) => a - b);
}

/** Places all orders at once, and waits until the machine of every slot runs. Returns slots per second, from the first order on. */
export async function fillRate(service: ServiceUnderTest, orders: number, slots: number): Promise<number> {
  const written = async (): Promise<{ messages: number; callbacks: number }> => {
    const { rows } = await service.knex.raw(
      'SELECT (SELECT COUNT(*) FROM outbox_message) AS messages, (SELECT COUNT(*) FROM notifier_notification) AS callbacks',
    );
    return { messages: Number(rows[0].messages), callbacks: Number(rows[0].callbacks) };
  };
  const before = await written();
  const started = performance.now();
  const ids = await Promise.all(
    Array.from({ length: orders }, async (): Promise<string> => {
      const { status, body } = await service.order(slots);
      if (status !== 202) throw new Error(`an order was answered ${status}: ${JSON.stringify(body)}`);
      return body.id;
    }),
  );
  const wanted = orders * slots;
  // By the index of batches: the cost of a poll must not grow with the table.
  const running = async (): Promise<boolean> => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const [row] = await service.knex('dispatch_slot').whereIn('batch_id', ids).where({ state: 'RUNNING' }).count({ n: '*' });
    return Number(row?.n) >= wanted;
  };
  await until(running, { withinMs: 240_000, what: 'all machines run' });
  const seconds = (performance.now() - started) / 1_000;
  const after = await written();
  // Each slot has at least three messages, one of them for the asset service, and two callbacks to the customer.
  if (after.messages - before.messages < wanted * 3) throw new Error(`only ${after.messages - before.messages} messages were written`);
  if (after.callbacks - before.callbacks < wanted * 2) throw new Error(`only ${after.callbacks - before.callbacks} callbacks were written`);
  return wanted / seconds;
}
