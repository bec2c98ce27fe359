import type { Logger } from '@holdfast/core';
import { settledWithin, startTimer, type Timer, wait } from '@holdfast/core';
import type { Consumer, EachBatchPayload, IHeaders, Kafka, KafkaMessage } from 'kafkajs';
import type { Handle } from '../adapter/handling.ts';
import { keepOpen } from '../adapter/keep-open.ts';
import type { MemberOptions } from '../adapter/member-options.ts';
import type { StartableSubscription } from '../adapter/subscriptions.ts';
import { type HandleRecordOptions, handleRecord } from '../kafka-wire/handle-record.ts';
import { fromRecord } from '../kafka-wire/records.ts';
import type { Publisher } from '../port/publisher.ts';
import type { DeliveryVerdict } from '../port/subscriber.ts';
import { kafkaRefusal } from './kafka-refusal.ts';
import { Turn } from './turn.ts';

export interface KafkaSubscriptionOptions extends MemberOptions {
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
export class KafkaSubscription implements StartableSubscription {
  readonly #options: KafkaSubscriptionOptions;
  readonly #handling: HandleRecordOptions;
  readonly #consumer: Consumer;
  readonly #closing = new AbortController();
  /** The next record of each partition, and the number of its deliveries so far. */
  readonly #attempts = new Map<string, { readonly offset: string; readonly count: number }>();
  readonly #timers = new Set<Timer>();
  /** The last turn of each partition that has a batch under way. */
  readonly #turns = new Map<string, Turn>();
  #ready = false;
  #running = false;
  #closed = false;

  constructor(options: KafkaSubscriptionOptions, handle: Handle) {
    this.#options = options;
    const { deadLetters, group, logger } = options;
    this.#handling = { handle, deadLetters, group, logger };
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
      this.#consumer.on(events.GROUP_JOIN, ({ payload }) => {
        this.#ready = true;
        this.#joined(payload?.memberAssignment ?? {});
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
    const { topics, group, mode, logger } = this.#options;
    await keepOpen({
      what: `Kafka, the subscription of ${group} to ${topics.join(', ')}`,
      open: async () => {
        await this.#consumer.connect();
        await this.#consumer.subscribe({ topics: [...topics], fromBeginning: mode !== 'broadcast' });
        return undefined;
      },
      isPermanent: (error) => kafkaRefusal(error).outcome === 'fatal',
      signal: this.#closing.signal,
      logger,
    }).opened;
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
    const { closeMs = 30_000 } = this.#options;
    const timer = startTimer(closeMs, () =>
      this.#closing.abort(new Error('The subscription is closing and has waited long enough; the message will be delivered again.')),
    );
    // It waits for all handlers; one that ignores its signal is given up after a second. Then it talks to the brokers.
    await settledWithin(closeMs + 5_000, this.#consumer.disconnect());
    timer.clear();
    this.#closing.abort(new Error('the subscription is closed'));
  }

  /**
   * Delivers the records of a batch, one after another. kafkajs joins the group again only when no batch is under way, and then fetches from
   * the committed offset. So a batch is left while its handler still runs; the next one of the partition waits for that handler, and skips what
   * it has settled.
   */
  async #eachBatch(payload: EachBatchPayload): Promise<void> {
    const { topic, partition } = payload.batch;
    const place = `${topic}/${partition}`;
    const turn = new Turn();
    const before = this.#turns.get(place);
    this.#turns.set(place, turn);
    // A handler may run for longer than the session time-out.
    const beat = setInterval(() => payload.heartbeat().catch((error) => turn.refused(error)), heartbeatMs);
    const work = this.#deliverAll(payload, turn, before).finally(() => {
      if (this.#turns.get(place) === turn) this.#turns.delete(place);
    });
    try {
      await Promise.race([work, turn.interrupted]);
    } finally {
      clearInterval(beat);
    }
  }

  async #deliverAll(
    { batch, resolveOffset, commitOffsetsIfNecessary, pause, isRunning, isStale }: EachBatchPayload,
    turn: Turn,
    before: Turn | undefined,
  ): Promise<void> {
    const { topic, partition } = batch;
    let next: bigint | undefined;
    let uncommitted = 0;
    const commit = async (): Promise<void> => {
      if (next === undefined || uncommitted === 0 || turn.lost.aborted) return;
      uncommitted = 0;
      const offset = next.toString();
      if (isRunning()) await this.#consumer.commitOffsets([{ topic, partition, offset }]);
      // kafkajs does nothing in the other one while it stops.
      else await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] });
    };
    try {
      const settled = (await before?.ended) ?? -1n;
      for (const record of batch.messages) {
        if (this.#closed || !isRunning() || isStale() || turn.over) break;
        if (BigInt(record.offset) >= settled) {
          const verdict = await this.#deliver(topic, partition, record, turn.lost);
          if (turn.lost.aborted) break;
          if (verdict.outcome === 'retry') {
            await this.#pause(pause, verdict.afterMs, turn);
            break;
          }
        }
        resolveOffset(record.offset);
        next = BigInt(record.offset) + 1n;
        uncommitted += 1;
        if (uncommitted >= commitEvery) await commit();
      }
      await commit();
    } finally {
      turn.end(turn.lost.aborted ? undefined : next);
    }
  }

  /** Lets the partition wait. A turn that is over keeps it: the next batch was fetched already. */
  async #pause(pause: () => () => void, ms: number, turn: Turn): Promise<void> {
    if (turn.over) return wait(ms, AbortSignal.any([turn.lost, this.#closing.signal])).catch(() => undefined);
    const resume = pause();
    const timer = startTimer(ms, () => {
      this.#timers.delete(timer);
      resume();
    });
    this.#timers.add(timer);
  }

  /** This member has joined anew: batches of before are fetched again, and those of partitions that it lost belong to other members. */
  #joined(assignment: Readonly<Record<string, readonly number[]>>): void {
    for (const [place, turn] of this.#turns) {
      const at = place.lastIndexOf('/');
      if (assignment[place.slice(0, at)]?.includes(Number(place.slice(at + 1)))) turn.finish();
      else turn.lose();
    }
  }

  async #deliver(topic: string, partition: number, record: KafkaMessage, lost: AbortSignal): Promise<DeliveryVerdict> {
    const place = `${topic}/${partition}`;
    const before = this.#attempts.get(place);
    const attempt = before?.offset === record.offset ? before.count + 1 : 1;
    this.#attempts.set(place, { offset: record.offset, count: attempt });
    const { offset } = record;
    const message = fromRecord({ topic, partition, offset }, text(record.headers ?? {}), record.key, record.value);
    const signal = AbortSignal.any([this.#closing.signal, lost]);
    return handleRecord({ message, attempt, at: { topic, partition, offset }, signal }, this.#handling);
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
