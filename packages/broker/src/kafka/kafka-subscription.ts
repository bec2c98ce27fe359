import type { Logger } from '@holdfast/core';
import { startTimer, type Timer } from '@holdfast/core';
import type { Consumer, EachBatchPayload, IHeaders, Kafka, KafkaMessage } from 'kafkajs';
import { retryUntilOpen } from '../adapter/retry-until-open.ts';
import { type HandleRecordOptions, handleRecord } from '../kafka-wire/handle-record.ts';
import { fromRecord } from '../kafka-wire/records.ts';
import type { Publisher } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscription } from '../port/subscriber.ts';

export interface KafkaSubscriptionOptions extends SubscribeOptions {
  readonly client: Kafka;
  readonly topics: readonly string[];
  /** Kafka's id of the group; unique for each member of a broadcast. */
  readonly groupId: string;
  readonly deadLetters: Publisher;
  readonly logger: Logger;
}

const heartbeatMs = 3_000;
const commitEvery = 200;

/**
 * A member of a consumer group. It delivers one record of a partition at a time, and partitions concurrently. An offset is committed only
 * after the verdicts on all records before it. A retry pauses its partition only.
 */
export class KafkaSubscription implements Subscription {
  readonly #options: KafkaSubscriptionOptions;
  readonly #handling: HandleRecordOptions;
  readonly #consumer: Consumer;
  readonly #closing = new AbortController();
  /** The next record of each partition, and the number of its deliveries so far. */
  readonly #attempts = new Map<string, { readonly offset: string; readonly count: number }>();
  readonly #timers = new Set<Timer>();
  #ready = false;
  #running = false;
  #closed = false;

  constructor(options: KafkaSubscriptionOptions, handler: (delivery: Delivery) => Promise<DeliveryVerdict>) {
    this.#options = options;
    const { deadLetters, logger, retryMs = 1_000 } = options;
    this.#handling = { handler, deadLetters, retryMs, logger };
    this.#consumer = options.client.consumer({
      groupId: options.groupId,
      sessionTimeout: 30_000,
      heartbeatInterval: heartbeatMs,
      rebalanceTimeout: 60_000,
      maxWaitTimeInMs: 100,
      allowAutoTopicCreation: false,
      retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries: 10, restartOnFailure: async () => !this.#closed },
    });
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** Resolves when this member has joined the group. */
  async start(): Promise<void> {
    const { events } = this.#consumer;
    const joined = new Promise<void>((resolve) => {
      this.#consumer.on(events.GROUP_JOIN, () => {
        this.#ready = true;
        resolve();
      });
    });
    this.#consumer.on(events.CRASH, ({ payload }) => {
      this.#ready = false;
      this.#options.logger.warn({ err: payload.error }, 'a Kafka consumer failed; joining again');
    });
    this.#consumer.on(events.DISCONNECT, () => {
      this.#ready = false;
    });
    const { topics, mode, logger } = this.#options;
    await retryUntilOpen(
      async () => {
        await this.#consumer.connect();
        await this.#consumer.subscribe({ topics: [...topics], fromBeginning: mode !== 'broadcast' });
      },
      this.#closing.signal,
      (err) => logger.warn({ err, topics }, 'Kafka can not be reached, or a topic does not exist; trying again'),
    );
    if (this.#closed) return;
    this.#running = true;
    await this.#consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: this.#options.concurrency ?? 6,
      eachBatch: (payload) => this.#eachBatch(payload),
    });
    await Promise.race([joined, aborted(this.#closing.signal)]);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#ready = false;
    for (const timer of this.#timers) timer.clear();
    // Without a running consumer no handler runs: only a start that keeps trying is to be ended.
    if (!this.#running) this.#closing.abort(new Error('the subscription is closed'));
    const timer = startTimer(this.#options.closeMs ?? 30_000, () =>
      this.#closing.abort(new Error('The subscription is closing and has waited long enough; the message will be delivered again.')),
    );
    await this.#consumer.disconnect();
    timer.clear();
    this.#closing.abort(new Error('the subscription is closed'));
  }

  async #eachBatch({ batch, resolveOffset, heartbeat, pause, isRunning, isStale }: EachBatchPayload): Promise<void> {
    const { topic, partition } = batch;
    // A handler may run for longer than the session time-out.
    const beat = setInterval(() => heartbeat().catch(() => undefined), heartbeatMs);
    let next: string | undefined;
    let uncommitted = 0;
    const commit = async (): Promise<void> => {
      if (next === undefined || uncommitted === 0) return;
      uncommitted = 0;
      await this.#consumer.commitOffsets([{ topic, partition, offset: next }]);
    };
    try {
      for (const record of batch.messages) {
        if (this.#closed || !isRunning() || isStale()) break;
        const verdict = await this.#deliver(topic, partition, record);
        if (verdict.outcome === 'retry') {
          const resume = pause();
          const timer = startTimer(verdict.afterMs, () => {
            this.#timers.delete(timer);
            resume();
          });
          this.#timers.add(timer);
          break;
        }
        resolveOffset(record.offset);
        next = (BigInt(record.offset) + 1n).toString();
        uncommitted += 1;
        if (uncommitted >= commitEvery) await commit();
      }
      await commit();
    } finally {
      clearInterval(beat);
    }
  }

  async #deliver(topic: string, partition: number, record: KafkaMessage): Promise<DeliveryVerdict> {
    const place = `${topic}/${partition}`;
    const before = this.#attempts.get(place);
    const attempt = before?.offset === record.offset ? before.count + 1 : 1;
    this.#attempts.set(place, { offset: record.offset, count: attempt });
    const { offset } = record;
    const message = fromRecord({ topic, partition, offset }, text(record.headers ?? {}), record.key, record.value);
    return handleRecord({ message, attempt, at: { topic, partition, offset }, signal: this.#closing.signal }, this.#handling);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function text(headers: IHeaders): Record<string, string> {
  const plain: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const one = Array.isArray(value) ? value[0] : value;
    if (one !== undefined) plain[name] = one.toString();
  }
  return plain;
}
