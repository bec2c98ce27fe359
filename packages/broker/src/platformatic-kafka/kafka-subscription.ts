import { type Logger, settledWithin, startTimer, wait } from '@holdfast/core';
import {
  type BaseOptions,
  Consumer,
  type Message as KafkaMessage,
  ListOffsetTimestamps,
  type MessagesStream,
  MessagesStreamFallbackModes,
  MessagesStreamModes,
} from '@platformatic/kafka';
import type { Handle } from '../adapter/handling.ts';
import { keepOpen } from '../adapter/keep-open.ts';
import type { MemberOptions } from '../adapter/member-options.ts';
import type { StartableSubscription } from '../adapter/subscriptions.ts';
import { type HandleRecordOptions, handleRecord } from '../kafka-wire/handle-record.ts';
import { fromRecord } from '../kafka-wire/records.ts';
import type { Publisher } from '../port/publisher.ts';
import type { DeliveryVerdict } from '../port/subscriber.ts';
import { kafkaRefusal } from './kafka-refusal.ts';
import { PartitionQueue } from './partition-queue.ts';

export interface KafkaSubscriptionOptions extends MemberOptions {
  readonly base: BaseOptions;
  readonly topics: readonly string[];
  /** Kafka's id of the group; unique for each member of a broadcast. */
  readonly groupId: string;
  readonly deadLetters: Publisher;
  readonly logger: Logger;
}

const commitEveryMs = 100;
const maxPending = 1_000;

/**
 * A member of a consumer group. It delivers one record of a partition at a time, and partitions concurrently. An offset is committed only
 * after the verdicts on all records before it. A retry pauses its partition only.
 */
export class KafkaSubscription implements StartableSubscription {
  readonly #options: KafkaSubscriptionOptions;
  readonly #handling: HandleRecordOptions;
  readonly #closing = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #queues = new Map<string, PartitionQueue>();
  /** Partitions of which a handler runs. */
  readonly #busy = new Set<string>();
  #consumer: Consumer | undefined;
  #stream: MessagesStream<Buffer, Buffer, Buffer, Buffer> | undefined;
  #running = 0;
  #pending = 0;
  #paused = false;
  #ready = false;
  /** True when no further handler is to start. */
  #stopped = false;
  #membership: Promise<void> | undefined;
  #committing: Promise<void> | undefined;

  constructor(options: KafkaSubscriptionOptions, handle: Handle) {
    this.#options = options;
    const { deadLetters, group, logger } = options;
    this.#handling = { handle, deadLetters, group, logger };
  }

  get ready(): boolean {
    return this.#ready && !this.#stopped;
  }

  /** Resolves when this member has joined the group. An error from which the client can't recover ends a consumer, and a new one joins. */
  async start(): Promise<void> {
    const { group, topics, logger } = this.#options;
    const { opened, done } = keepOpen({
      what: `Kafka, the subscription of ${group} to ${topics.join(', ')}`,
      open: () =>
        new Promise((resolve, reject) => {
          const ended = this.#join(() => resolve({ ended }));
          // It ends before it has joined when the subscription is closed.
          ended.then(() => resolve({ ended }), reject);
        }),
      isPermanent: (error) => kafkaRefusal(error).outcome === 'fatal',
      signal: this.#closing.signal,
      logger,
    });
    this.#membership = done;
    // A start that waits for its turn to join ends when the subscription is closed.
    await Promise.race([opened, aborted(this.#closing.signal)]);
  }

  async close(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#ready = false;
    const { closeMs = 30_000 } = this.#options;
    const giveUp = startTimer(closeMs, () =>
      this.#giveUp.abort(new Error('The subscription is closing and has waited long enough; the message will be delivered again.')),
    );
    for (const { timer } of this.#queues.values()) timer?.clear();
    // The consumer stays until the handlers have ended, so that their offsets can be committed.
    const waited = performance.now();
    while (this.#running > 0 && performance.now() - waited < closeMs + 1_500) await wait(5);
    giveUp.clear();
    this.#giveUp.abort(new Error('the subscription is closed'));
    this.#closing.abort(new Error('the subscription is closed'));
    await this.#membership;
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
    consumer.on('consumer:group:join', () => this.#dropUnassigned(consumer));
    const ticker = setInterval(() => void this.#commit(consumer), commitEveryMs);
    let stream: MessagesStream<Buffer, Buffer, Buffer, Buffer> | undefined;
    try {
      await this.#commitStart(consumer, broadcast);
      stream = await consumer.consume({
        topics: [...topics],
        autocommit: false,
        mode: broadcast ? MessagesStreamModes.LATEST : MessagesStreamModes.COMMITTED,
        fallbackMode: broadcast ? MessagesStreamFallbackModes.LATEST : MessagesStreamFallbackModes.EARLIEST,
      });
      this.#stream = stream;
      this.#paused = false;
      await this.#read(consumer, stream, joined);
    } finally {
      clearInterval(ticker);
      this.#ready = false;
      await this.#commit(consumer).catch(() => undefined);
      stream?.destroy();
      await settledWithin(5_000, consumer.close(true));
      for (const queue of this.#queues.values()) queue.drop();
      this.#queues.clear();
      this.#pending = 0;
    }
  }

  /** Queues the stream's records. Resolves when the subscription closes; rejects when the stream ends before. */
  #read(consumer: Consumer, stream: MessagesStream<Buffer, Buffer, Buffer, Buffer>, joined: () => void): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
      stream.on('error', reject);
      stream.on('close', () => reject(new Error('The stream of messages ended.')));
      const joinedGroup = (): void => {
        this.#ready = true;
        joined();
      };
      if (consumer.assignments) joinedGroup();
      stream.on('offsets', joinedGroup);
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

  /**
   * Commits the first offset of each partition that has no commit. Without one, this client would resume after a rebalance at the offset
   * that it had read to.
   */
  async #commitStart(consumer: Consumer, broadcast: boolean): Promise<void> {
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

  /** Drops queued records of partitions that another member has now. */
  #dropUnassigned(consumer: Consumer): void {
    const assigned = new Set(
      (consumer.assignments ?? []).flatMap(({ topic, partitions }) => partitions.map((partition) => `${topic}/${partition}`)),
    );
    for (const [name, queue] of this.#queues) {
      if (assigned.has(name)) continue;
      this.#pending -= queue.drop();
      this.#queues.delete(name);
    }
    // If no record is left and none is being handled, nothing else would resume the stream.
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
      if (this.#running >= limit || this.#stopped) return;
      const place = `${queue.topic}/${queue.partition}`;
      // A handler of a partition that was lost and has come back may still run.
      if (this.#busy.has(place) || queue.timer !== undefined || queue.records.length === 0) continue;
      this.#busy.add(place);
      this.#running += 1;
      void this.#drain(queue).finally(() => {
        this.#busy.delete(place);
        this.#running -= 1;
        this.#resume();
        this.#pump();
      });
    }
  }

  /** Delivers up to a hundred records of a partition, so that other partitions get their turn. */
  async #drain(queue: PartitionQueue): Promise<void> {
    for (let n = 0; n < 100; n++) {
      const [record] = queue.records;
      if (!record || this.#stopped || !this.#isOurs(queue)) return;
      queue.attempts += 1;
      const verdict = await this.#deliver(record, queue.attempts, queue.lost.signal);
      if (!this.#isOurs(queue)) return;
      if (verdict.outcome === 'retry') {
        queue.timer = startTimer(verdict.afterMs, () => {
          queue.timer = undefined;
          const stream = this.#stream;
          if (stream) this.#pump();
        });
        return;
      }
      queue.settleHead();
      this.#pending -= 1;
    }
  }

  #isOurs(queue: PartitionQueue): boolean {
    return this.#queues.get(`${queue.topic}/${queue.partition}`) === queue;
  }

  async #deliver(record: KafkaMessage, attempt: number, lost: AbortSignal): Promise<DeliveryVerdict> {
    const { topic, partition } = record;
    const place = { topic, partition, offset: record.offset.toString() };
    const headers: Record<string, string> = {};
    for (const [name, value] of record.headers) headers[name.toString()] = value?.toString() ?? '';
    const message = fromRecord(place, headers, record.key, record.value);
    const signal = AbortSignal.any([this.#giveUp.signal, lost]);
    return handleRecord({ message, attempt, at: place, signal }, this.#handling);
  }

  /** Commits the offsets of records with a verdict, one request at a time. */
  async #commit(consumer: Consumer): Promise<void> {
    if (this.#options.mode === 'broadcast') return;
    await this.#committing;
    const offsets = [...this.#queues.values()].flatMap((queue) =>
      queue.settled && queue.settled.offset > queue.committed
        ? [{ queue, topic: queue.topic, partition: queue.partition, ...queue.settled }]
        : [],
    );
    if (offsets.length === 0 || consumer !== this.#consumer) return;
    this.#committing = (async () => {
      try {
        await consumer.commit({ offsets: offsets.map(({ queue: _, ...offset }) => offset) });
        for (const { queue, offset } of offsets) queue.committed = offset;
      } catch (err) {
        this.#options.logger.debug({ err }, 'committing offsets failed; trying again');
      }
    })();
    await this.#committing;
    this.#committing = undefined;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
