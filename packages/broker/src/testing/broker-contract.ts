import { steps, wait } from '@holdfast/core';
import type { Message } from '../port/message.ts';
import { ack, type Delivery, type DeliveryVerdict, reject, retry } from '../port/subscriber.ts';
import { type BrokerUnderTest, type ContractApi, fact, harness, message, numbered, publishAll, subscribe } from './broker-under-test.ts';
import { deadLetterContract } from './dead-letter-contract.ts';

/** Defines the tests that every adapter must pass, on a real broker. */
export function brokerContract(under: BrokerUnderTest, { it, equal }: ContractApi): void {
  const { test, connect, names } = harness(under, it);
  deadLetterContract(under, { it, equal });

  test('gives one result per message, in their order, and delivers them whole', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const seen = new Map<string, Delivery>();
    await subscribe(broker, topic, { group }, async (delivery) => {
      seen.set(delivery.message.id, delivery);
      return ack;
    });
    const body = Uint8Array.from({ length: 256 }, (_, i) => i);
    const batch = Array.from(
      { length: 20 },
      (_, i): Message => ({ ...message(topic, `k${i % 3}`), headers: { 'x-n': `${i}`, traceparent: 'tp' }, body }),
    );
    const results = await broker.publish(batch);
    equal(
      results.map(({ outcome }) => outcome),
      batch.map(() => 'acked'),
    );
    await fact(() => seen.size === batch.length);
    for (const [i, sent] of batch.entries()) {
      const got = seen.get(sent.id)?.message;
      equal({ ...got, body: [...(got?.body ?? [])] }, { ...sent, body: [...body] });
      equal(seen.get(sent.id)?.attempt, 1);
      equal(got?.headers['x-n'], `${i}`);
    }
  });

  test('keeps the order of each key over members of a group, one delivery of a key at a time', async () => {
    const { topic, group } = await names();
    const [one, two] = [connect(), connect()];
    const seen = new Map<string, number[]>();
    const running = new Set<string>();
    let overlaps = 0;
    const handler = async ({ message: { key = '', headers } }: Delivery): Promise<DeliveryVerdict> => {
      if (running.has(key)) overlaps += 1;
      running.add(key);
      await wait(1);
      running.delete(key);
      seen.set(key, [...(seen.get(key) ?? []), Number(headers['x-n'])]);
      return ack;
    };
    await subscribe(one, topic, { group }, handler);
    await subscribe(two, topic, { group }, handler);
    const total = 400;
    for (let from = 0; from < total; from += 40) {
      await publishAll(
        one,
        Array.from({ length: 40 }, (_, i) => numbered(topic, `k${(from + i) % 7}`, from + i)),
      );
    }
    await fact(() => [...seen.values()].flat().length >= total);
    equal(overlaps, 0);
    for (const list of seen.values())
      equal(
        firsts(list),
        [...firsts(list)].sort((a, b) => a - b),
      );
    equal(new Set([...seen.values()].flat()).size, total);
  });

  test('gives each group every message, and each member of a broadcast the messages since it joined', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const counts = { a: 0, b: 0, c: 0, d: 0 };
    const counting = (name: keyof typeof counts) => async (): Promise<DeliveryVerdict> => {
      counts[name] += 1;
      return ack;
    };
    await subscribe(broker, topic, { group: `${group}-a` }, counting('a'));
    await subscribe(broker, topic, { group: `${group}-b` }, counting('b'));
    await subscribe(broker, topic, { group: `${group}-c`, mode: 'broadcast' }, counting('c'));
    await subscribe(connect(), topic, { group: `${group}-c`, mode: 'broadcast' }, counting('d'));
    await publishAll(
      broker,
      Array.from({ length: 10 }, (_, i) => numbered(topic, i % 2 === 0 ? 'k' : undefined, i)),
    );
    await fact(() => Object.values(counts).every((count) => count >= 10));
    equal(counts, { a: 10, b: 10, c: 10, d: 10 });
  });

  test('delivers again after a retry or a throw, and lets later messages of the key wait', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const log: string[] = [];
    await subscribe(broker, topic, { group, retryMs: 100 }, async ({ message: { headers }, attempt }) => {
      log.push(`${headers['x-n']}:${attempt}`);
      if (headers['x-n'] === '0' && attempt === 1) return retry(200);
      if (headers['x-n'] === '0' && attempt === 2) throw new Error('thrown');
      return ack;
    });
    await publishAll(
      broker,
      Array.from({ length: 3 }, (_, i) => numbered(topic, 'same', i)),
    );
    await fact(() => log.includes('2:1'));
    equal(log, ['0:1', '0:2', '0:3', '1:1', '2:1']);
  });

  test('delivers again a message without a key, too', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const attempts: number[] = [];
    await subscribe(broker, topic, { group }, async ({ attempt }) => {
      attempts.push(attempt);
      return attempt < 3 ? retry(50) : ack;
    });
    await publishAll(broker, [numbered(topic, undefined, 0)]);
    await fact(() => attempts.length === 3);
    equal(attempts, [1, 2, 3]);
  });

  test('stores a rejected message with the dead letters, and continues', async () => {
    const { topic, group } = await names();
    const broker = connect();
    let handled = 0;
    await subscribe(broker, topic, { group }, async ({ message: { headers } }) => {
      handled += 1;
      return headers['x-n'] === '1' ? reject('number one') : ack;
    });
    const batch = Array.from({ length: 3 }, (_, i) => numbered(topic, 'k', i));
    await publishAll(broker, batch);
    await fact(() => handled === 3);
    await fact(async () => (await under.dead(topic, group)).length > 0);
    equal(await under.dead(topic, group), [batch[1]?.id]);
  });

  test('redelivers messages that a member had not finished when it left', async () => {
    const { topic, group } = await names();
    const [first, second, writer] = [connect(), connect(), connect()];
    let stuck = 0;
    const leaving = await subscribe(first, topic, { group, concurrency: 1, closeMs: 200 }, async ({ signal }) => {
      stuck += 1;
      await wait(600_000, signal).catch(() => undefined);
      return retry(0);
    });
    const batch = Array.from({ length: 5 }, (_, i) => numbered(topic, 'k', i));
    const publishing = publishAll(writer, batch);
    await fact(() => stuck > 0);
    await first.close();
    await leaving.close();
    const seen: string[] = [];
    await subscribe(second, topic, { group }, async ({ message: { id } }) => {
      seen.push(id);
      return ack;
    });
    await fact(() => new Set(seen).size === 5, 45_000);
    equal(
      firsts(seen),
      batch.map(({ id }) => id),
    );
    await publishing;
  }, 90_000);

  test('stores a message that a member of a broadcast rejected with the dead letters', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const log: string[] = [];
    await subscribe(broker, topic, { group, mode: 'broadcast', retryMs: 20 }, async ({ message: { headers }, attempt }) => {
      log.push(`${headers['x-n']}:${attempt}`);
      if (headers['x-n'] === '0') return attempt === 1 ? retry(20) : ack;
      if (headers['x-n'] === '1' && attempt === 1) throw new Error('thrown');
      return headers['x-n'] === '2' ? reject('number two') : ack;
    });
    const batch = Array.from({ length: 4 }, (_, i) => numbered(topic, undefined, i));
    await publishAll(broker, batch);
    await fact(() => ['0:2', '1:2', '2:1', '3:1'].every((one) => log.includes(one)));
    await fact(async () => (await under.dead(topic, group)).length > 0);
    // The member is still there.
    await publishAll(broker, [numbered(topic, undefined, 4)]);
    await fact(() => log.includes('4:1'));
  });

  test('rejects a message after the last attempt of the policy', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const attempts: number[] = [];
    await subscribe(broker, topic, { group, retry: steps(20, 20) }, async ({ attempt }) => {
      attempts.push(attempt);
      throw new Error('always');
    });
    const sent = numbered(topic, 'k', 0);
    await publishAll(broker, [sent]);
    await fact(() => attempts.length === 3);
    let dead: readonly string[] = [];
    await fact(async () => (dead = await under.dead(topic, group)).length > 0);
    equal(dead, [sent.id]);
    equal(attempts, [1, 2, 3]);
  });

  test('gives a handler up that never ends, delivers its message again, and closes', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const attempts: number[] = [];
    const signals: AbortSignal[] = [];
    const subscription = await subscribe(
      broker,
      topic,
      { group, handlerTimeoutMs: 50, retryMs: 20, closeMs: 50 },
      async ({ attempt, signal }) => {
        attempts.push(attempt);
        signals.push(signal);
        return new Promise(() => undefined);
      },
    );
    const publishing = publishAll(broker, [numbered(topic, 'k', 0)]).catch(() => undefined);
    await fact(() => attempts.length >= 2);
    equal(attempts.slice(0, 2), [1, 2]);
    equal(signals[0]?.aborted, true);
    const started = performance.now();
    await subscription.close();
    equal(performance.now() - started < 6_000, true);
    if (under.unroutable !== 'backpressure') await publishing;
  });

  test('gives each message of a batch its own result', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const seen: string[] = [];
    await subscribe(broker, topic, { group }, async ({ message: { headers } }) => {
      seen.push(headers['x-n'] ?? '');
      return ack;
    });
    if (under.oversizedBytes !== undefined) {
      const large = { ...numbered(topic, 'b', 1), body: new Uint8Array(under.oversizedBytes) };
      const results = await broker.publish([numbered(topic, 'a', 0), large, numbered(topic, 'c', 2)]);
      equal(
        results.map(({ outcome }) => outcome),
        ['acked', 'poison', 'acked'],
      );
      await fact(() => new Set(seen).size === 2);
    }
    if (under.unroutable) {
      const results = await broker.publish([numbered(topic, 'd', 3), numbered(`nobody-${group}`, 'e', 4)]);
      equal(
        results.map(({ outcome }) => outcome),
        ['acked', under.unroutable],
      );
    }
  });

  test('finishes a publish in progress when it is closed, or reports that it did not', async () => {
    const { topic, group } = await names();
    const reader = connect();
    const seen = new Set<string>();
    await subscribe(reader, topic, { group }, async ({ message: { id } }) => {
      seen.add(id);
      return ack;
    });
    const broker = connect();
    const batch = Array.from({ length: 200 }, (_, i) => numbered(topic, `k${i}`, i));
    const publishing = broker.publish(batch);
    await broker.close();
    const results = await publishing;
    equal(results.length, batch.length);
    const acked = batch.filter((_, i) => results[i]?.outcome === 'acked');
    await fact(() => acked.every(({ id }) => seen.has(id)));
  });
}

/** The list without repetitions. */
function firsts<T>(list: readonly T[]): T[] {
  return [...new Set(list)];
}
