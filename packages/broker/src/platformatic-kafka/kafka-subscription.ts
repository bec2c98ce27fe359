import { type Logger, wait } from '@holdfast/core';
import {
  type BaseOptions,
  Consumer,
  type Message as KafkaMessage,
  ListOffsetTimestamps,
  type MessagesStream,
  MessagesStreamFallbackModes,
  MessagesStreamModes,
} from '@platformatic/kafka';
import { retryUntilOpen } from '../adapter/retry-until-open.ts';
import { type HandleRecordOptions, handleRecord } from '../kafka-wire/handle-record.ts';
import { fromRecord } from '../kafka-wire/records.ts';
import type { Publisher } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscription } from '../port/subscriber.ts';
import { PartitionQueue } from './partition-queue.ts';

export interface KafkaSubscriptionOptions extends SubscribeOptions {
  readonly base: BaseOptions;
  readonly topics: readonly string[];
  /** As Kafka knows the group: for a broadcast one of its own per member. */
  readonly groupId: string;
  readonly deadLetters: Publisher;
  readonly logger: Logger;
}

const commitEveryMs = 100;
const maxPending = 1_000;

/**
 * A member of a consumer group. One delivery at a time per partition, partitions side by side. An offset is committed only after
 * the verdict on all before it; a retry keeps its partition waiting, and no other.
 */
export class KafkaSubscription implements Subscription {
  readonly #options: KafkaSubscriptionOptions;
  readonly #handling: HandleRecordOptions;
  readonly #closing = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #queues = new Map<string, PartitionQueue>();
  #consumer: Consumer | undefined;
  #stream: MessagesStream<Buffer, Buffer, Buffer, Buffer> | undefined;
  #running = 0;
  #pending = 0;
  #paused = false;
  #ready = false;
  #life: Promise<void> | undefined;
  #committing: Promise<void> | undefined;

  constructor(options: KafkaSubscriptionOptions, handler: (delivery: Delivery) => Promise<DeliveryVerdict>) {
    this.#options = options;
    const { deadLetters, logger, retryMs = 1_000 } = options;
    this.#handling = { handler, deadLetters, retryMs, logger };
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** Resolves when the group has let this member in. */
  async start(): Promise<void> {
    const { signal } = this.#closing;
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
      this.#life = this.#live(resolve);
    });
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#ready = false;
    const giveUp = setTimeout(
      () => this.#giveUp.abort(new Error('The subscription is closing and has waited long enough; the message comes again.')),
      this.#options.closeMs ?? 30_000,
    );
    this.#closing.abort(new Error('the subscription is closed'));
    for (const { timer } of this.#queues.values()) clearTimeout(timer);
    const waited = performance.now();
    while (this.#running > 0 && performance.now() - waited < (this.#options.closeMs ?? 30_000) + 1_000) await wait(5);
    clearTimeout(giveUp);
    this.#giveUp.abort(new Error('the subscription is closed'));
    await this.#life;
  }

  /** One consumer after another: what the client can not recover from ends it, and another joins. */
  async #live(joined: () => void): Promise<void> {
    const { signal } = this.#closing;
    await retryUntilOpen(
      async () => {
        await this.#join(joined);
        // Left for no reason of ours: again, with a pause.
        if (!signal.aborted) throw new Error('the consumer ended');
      },
      signal,
      (err) => {
        if (!signal.aborted)
          this.#options.logger.warn({ err, topics: this.#options.topics }, 'Kafka, or a topic, is not there; joining again');
      },
    );
  }

  async #join(joined: () => void): Promise<void> {
    const { base, topics, groupId, mode } = this.#options;
    const broadcast = mode === 'broadcast';
    const consumer: Consumer = new Consumer({
      ...base,
      groupId,
      autocommit: false,
      autocreateTopics: false,
      sessionTimeout: 30_000,
      rebalanceTimeout: 60_000,
      heartbeatInterval: 3_000,
      maxWaitTime: 100,
      highWaterMark: 256,
      retries: 3,
      retryDelay: 100,
      timeout: 10_000,
    });
    this.#consumer = consumer;
    consumer.on('client:broker:failed', () => undefined);
    consumer.on('consumer:heartbeat:error', ({ error }) => this.#options.logger.debug({ err: error }, 'a heartbeat did not reach Kafka'));
    consumer.on('consumer:group:join', () => this.#assigned(consumer));
    const ticker = setInterval(() => void this.#commit(consumer), commitEveryMs);
    let stream: MessagesStream<Buffer, Buffer, Buffer, Buffer> | undefined;
    try {
      await this.#positions(consumer, broadcast);
      stream = await consumer.consume({
        topics: [...topics],
        autocommit: false,
        mode: broadcast ? MessagesStreamModes.LATEST : MessagesStreamModes.COMMITTED,
        fallbackMode: broadcast ? MessagesStreamFallbackModes.LATEST : MessagesStreamFallbackModes.EARLIEST,
      });
      this.#stream = stream;
      this.#paused = false;
      await this.#follow(consumer, stream, joined);
    } finally {
      clearInterval(ticker);
      this.#ready = false;
      await this.#commit(consumer).catch(() => undefined);
      stream?.destroy();
      await Promise.race([consumer.close(true).catch(() => undefined), wait(5_000)]);
      this.#queues.clear();
      this.#pending = 0;
    }
  }

  /** Resolves when we close; rejects when the stream ends on its own. */
  #follow(consumer: Consumer, stream: MessagesStream<Buffer, Buffer, Buffer, Buffer>, joined: () => void): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
      stream.on('error', reject);
      stream.on('close', () => reject(new Error('the stream of messages ended')));
      const there = (): void => {
        this.#ready = true;
        joined();
      };
      if (consumer.assignments) there();
      stream.on('offsets', there);
      stream.on('data', (record) => {
        if (!this.#queue(record.topic, record.partition).push(record)) return;
        this.#pending += 1;
        if (this.#pending >= maxPending && !this.#paused) {
          this.#paused = true;
          stream.pause();
        }
        this.#pump();
      });
    });
  }

  /** A group without a commit would begin, after each rebalance, where this client's memory was: so there is one from the start. */
  async #positions(consumer: Consumer, broadcast: boolean): Promise<void> {
    if (broadcast) return;
    await consumer.joinGroup({});
    const { assignments } = consumer;
    if (!assignments || assignments.length === 0) return;
    const committed = await consumer.listCommittedOffsets({ topics: assignments });
    const earliest = await consumer.listOffsets({ topics: [...this.#options.topics], timestamp: ListOffsetTimestamps.EARLIEST });
    const offsets = assignments.flatMap(({ topic, partitions }) =>
      partitions
        .filter((partition) => (committed.get(topic)?.[partition] ?? -1n) < 0n)
        .map((partition) => ({ topic, partition, offset: earliest.get(topic)?.[partition] ?? 0n, leaderEpoch: -1 })),
    );
    if (offsets.length > 0) await consumer.commit({ offsets });
  }

  #queue(topic: string, partition: number): PartitionQueue {
    const name = `${topic}/${partition}`;
    const known = this.#queues.get(name);
    if (known) return known;
    const fresh = new PartitionQueue(topic, partition);
    this.#queues.set(name, fresh);
    return fresh;
  }

  /** Forgets what was read of partitions that are another member's now. */
  #assigned(consumer: Consumer): void {
    const ours = new Set(
      (consumer.assignments ?? []).flatMap(({ topic, partitions }) => partitions.map((partition) => `${topic}/${partition}`)),
    );
    for (const [name, queue] of this.#queues) {
      if (ours.has(name)) continue;
      clearTimeout(queue.timer);
      this.#pending -= queue.records.length;
      this.#queues.delete(name);
    }
    // What is left may be nothing, and nothing of it under way: then nobody else would.
    this.#resume();
  }

  #resume(): void {
    if (!this.#paused || this.#pending >= maxPending / 2) return;
    this.#paused = false;
    this.#stream?.resume();
  }

  #pump(): void {
    const limit = this.#options.concurrency ?? 6;
    for (const queue of this.#queues.values()) {
      if (this.#running >= limit || this.#closing.signal.aborted) return;
      if (queue.running || queue.timer !== undefined || queue.records.length === 0) continue;
      queue.running = true;
      this.#running += 1;
      void this.#drain(queue).finally(() => {
        queue.running = false;
        this.#running -= 1;
        this.#resume();
        this.#pump();
      });
    }
  }

  /** Up to a hundred records of a partition, so that others get their turn. */
  async #drain(queue: PartitionQueue): Promise<void> {
    for (let n = 0; n < 100; n++) {
      const [record] = queue.records;
      if (!record || this.#closing.signal.aborted || !this.#isOurs(queue)) return;
      queue.attempts += 1;
      const verdict = await this.#deliver(record, queue.attempts);
      if (!this.#isOurs(queue)) return;
      if (verdict.outcome === 'retry') {
        queue.timer = setTimeout(() => {
          queue.timer = undefined;
          const stream = this.#stream;
          if (stream) this.#pump();
        }, verdict.afterMs);
        return;
      }
      queue.settled();
      this.#pending -= 1;
    }
  }

  #isOurs(queue: PartitionQueue): boolean {
    return this.#queues.get(`${queue.topic}/${queue.partition}`) === queue;
  }

  async #deliver(record: KafkaMessage, attempt: number): Promise<DeliveryVerdict> {
    const { topic, partition } = record;
    const place = { topic, partition, offset: record.offset.toString() };
    const headers: Record<string, string> = {};
    for (const [name, value] of record.headers) headers[name.toString()] = value?.toString() ?? '';
    const message = fromRecord(place, headers, record.key, record.value);
    return handleRecord({ message, attempt, at: place, signal: this.#giveUp.signal }, this.#handling);
  }

  /** Offsets of what has its verdict, one request at a time. */
  async #commit(consumer: Consumer): Promise<void> {
    if (this.#options.mode === 'broadcast') return;
    await this.#committing;
    const offsets = [...this.#queues.values()].flatMap((queue) =>
      queue.done && queue.done.offset > queue.committed ? [{ queue, topic: queue.topic, partition: queue.partition, ...queue.done }] : [],
    );
    if (offsets.length === 0 || consumer !== this.#consumer) return;
    this.#committing = (async () => {
      try {
        await consumer.commit({ offsets: offsets.map(({ queue: _, ...offset }) => offset) });
        for (const { queue, offset } of offsets) queue.committed = offset;
      } catch (err) {
        this.#options.logger.debug({ err }, 'offsets were not committed yet');
      }
    })();
    await this.#committing;
    this.#committing = undefined;
  }
}
