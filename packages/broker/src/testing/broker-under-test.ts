import { uuidv7, wait } from '@holdfast/core';
import type { Broker } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';
import type { Publisher } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscriber, Subscription } from '../port/subscriber.ts';

/** The parts of a test runner that the contract needs. Those of vitest and of node:test fit. */
export interface ContractApi {
  /** Defines a test: `it` of vitest, or `test` of node:test. */
  readonly it: (name: string, test: () => Promise<void>, timeoutMs?: number) => void;
  /** Fails unless the two are deeply equal. */
  readonly equal: (actual: unknown, expected: unknown) => void;
}

/** An adapter under test, and the facts about its broker that the contract depends on. */
export interface BrokerUnderTest {
  /** Opens a connection of its own, as another process would. */
  readonly connect: () => Publisher & Subscriber & Partial<Pick<Broker, 'deadLetters'>>;
  /** Creates a topic with its dead letters, where the broker requires it. */
  readonly createTopic: (topic: string) => Promise<void>;
  /** The size of a body that the broker refuses; `undefined` if it has no limit. */
  readonly oversizedBytes: number | undefined;
  /** The result of a message to a topic that does not exist; `undefined` if the broker accepts it. */
  readonly unroutable: 'poison' | 'backpressure' | undefined;
  /** Reads the ids of the messages that a group rejected. */
  readonly dead: (topic: string, group: string) => Promise<readonly string[]>;
}

/** The tools of a contract's tests. */
export interface Harness {
  /** Opens the broker under test; it is closed at the end of the test. */
  connect(): ReturnType<BrokerUnderTest['connect']>;
  test(name: string, run: () => Promise<void>, timeoutMs?: number): void;
  /** Creates a topic, and returns its name with that of a new group. */
  names(): Promise<{ topic: string; group: string }>;
}

/** Closes the connections of each test after it, also when it failed. */
export function harness(under: BrokerUnderTest, it: ContractApi['it']): Harness {
  const open: { close(): Promise<void> }[] = [];
  const connect = (): ReturnType<BrokerUnderTest['connect']> => {
    const broker = under.connect();
    open.push(broker);
    return broker;
  };
  const test = (name: string, run: () => Promise<void>, timeoutMs = 60_000): void =>
    it(
      name,
      async () => {
        try {
          await run();
        } finally {
          for (const broker of open.splice(0)) await broker.close();
        }
      },
      timeoutMs,
    );
  const names = async (): Promise<{ topic: string; group: string }> => {
    const id = uuidv7().slice(-12);
    await under.createTopic(`topic-${id}`);
    return { topic: `topic-${id}`, group: `group-${id}` };
  };
  return { connect, test, names };
}

export async function subscribe(
  broker: Subscriber,
  topic: string,
  options: SubscribeOptions,
  handler: (delivery: Delivery) => Promise<DeliveryVerdict>,
): Promise<Subscription> {
  return broker.subscribe([topic], options, handler);
}

export function message(topic: string, key: string | undefined): Message {
  return {
    id: uuidv7(),
    topic,
    ...(key === undefined ? {} : { key }),
    headers: {},
    body: new Uint8Array(),
    contentType: 'application/octet-stream',
  };
}

export function numbered(topic: string, key: string | undefined, n: number): Message {
  return { ...message(topic, key), headers: { 'x-n': `${n}` }, body: new TextEncoder().encode(`${n}`) };
}

export async function fact(check: () => boolean | Promise<boolean>, withinMs = 30_000): Promise<void> {
  const started = performance.now();
  while (!(await check())) {
    if (performance.now() - started > withinMs) throw new Error(`not within ${withinMs} ms: ${check.toString()}`);
    await wait(10);
  }
}

/** Publishes as a caller must: messages that were not acked are published again, in order. */
export async function publishAll(broker: Publisher, batch: readonly Message[]): Promise<void> {
  let left = [...batch];
  for (let tries = 0; left.length > 0 && tries < 20; tries++) {
    const results = await broker.publish(left);
    left = left.filter((_, i) => results[i]?.outcome !== 'acked');
    if (left.length > 0) await wait(100);
  }
  if (left.length > 0) throw new Error(`${left.length} messages were never acked`);
}
