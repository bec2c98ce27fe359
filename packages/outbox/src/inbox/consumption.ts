import type { Delivery, DeliveryVerdict, Message, Subscriber, Subscription } from '@holdfast/broker';
import {
  afterCommit,
  type Backoff,
  Batcher,
  checkpoint,
  type Database,
  defineLoop,
  exponential,
  HoldfastError,
  InvalidArgumentError,
  keyText,
  type Logger,
  type Loop,
  type SqlRunner,
  Telemetry,
  TransientDatabaseError,
  unlessGivenUp,
  wholeNumber,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { firstPutAt } from './first-put-at.ts';
import type { Entry, InboxTable } from './inbox-table.ts';
import { SharedLock } from './shared-lock.ts';

/** Options of a consumption. Give either `handler` or `handleMany`. */
export interface ConsumeOptions {
  /** The broker. It stays open when the consumption is closed. */
  readonly subscriber: Subscriber;
  /** One topic or several. */
  readonly topic: string | readonly string[];
  /** Name of the consumer: the broker's group, and the scope of its notes in the inbox. At most 100 characters. */
  readonly consumer: string;
  /**
   * Handles a message with `trx`, the transaction that also notes it as handled. If it returns `reject(reason)`, the message goes to the
   * broker's dead letters; if it throws, the message is delivered again after `retry`. In both cases the transaction rolls back.
   */
  readonly handler?: (
    message: Message,
    trx: Knex.Transaction,
    context: { readonly attempt: number; readonly signal: AbortSignal },
  ) => unknown;
  /**
   * Handles messages that arrived together, in one transaction with their notes. If it throws or rejects, each of them is handed over
   * again in a transaction of its own, so that one message cannot hold up another. At most `concurrency` messages come together; messages
   * of one key never do, since each waits for the one before.
   */
  readonly handleMany?: (messages: readonly Message[], trx: Knex.Transaction) => unknown;
  /** Messages that are handled at a time in this process. Default 6; with `handleMany` 100. */
  readonly concurrency?: number;
  /**
   * When a message whose handler threw is delivered again. Default: 1 s, doubled up to a minute, without end. After the last try of a
   * schedule that ends, the message is rejected.
   */
  readonly retry?: Backoff;
  /**
   * The time, in ms, that a handler may take, its transaction included. After it `context.signal` aborts, and the message is delivered again.
   * Default 900,000 (15 minutes).
   */
  readonly handlerTimeoutMs?: number;
  /** After so many starts of the handler that ended with the death of the process, the message is set aside. Default 3. */
  readonly maxStarts?: number;
  /** A message that is older than the retention and not remembered: `park` (default) sets it aside; `run` handles it, perhaps again. */
  readonly late?: 'park' | 'run';
}

/** Counts of a consumption since it was created. */
export interface ConsumptionCounts {
  /** Messages whose transaction committed. */
  handled: number;
  /** Deliveries of messages that had been handled before. */
  duplicates: number;
  /** Handlers that threw, and transactions that did not commit. */
  failed: number;
  /** Messages that the handler rejected. */
  rejected: number;
  /** Messages that were older than the retention and not remembered. */
  late: number;
  /** Messages that were set aside after `maxStarts`. */
  crashLooped: number;
}

/** The part of an inbox that a consumption needs. */
export interface ConsumptionHost {
  readonly database: Database;
  readonly logger: Logger;
  readonly table: InboxTable;
  readonly retentionMs: number;
  /** Deletes notes older than the retention. Returns their number. */
  readonly purge: (options: { readonly signal: AbortSignal }) => Promise<number>;
}

const ack: DeliveryVerdict = { outcome: 'ack' };

/**
 * The time, in ms, that a handler has after its signal has aborted, before its transaction rolls back: a batch, then its messages alone, are given
 * up before the broker gives up the delivery, a second after the signal.
 */
const graceMs = 300;

/** Rolls a transaction back because of the handler's verdict. */
class RolledBack extends Error {
  readonly verdict: DeliveryVerdict;

  constructor(verdict: DeliveryVerdict) {
    super('rolled back');
    this.verdict = verdict;
  }
}

/**
 * Handles the deliveries of a broker, each in a transaction with its note in the inbox. The broker gets its ack only after the commit.
 *
 * A message that kills its process is delivered again to the next process, without end. Therefore a delivery runs alone, and its start is
 * noted first, in two cases: no delivery of its partition has committed in this process yet, or it is a redelivery whose failure this
 * process has not seen. A message that kills the process then runs alone; it is set aside after `maxStarts`.
 */
export class Consumption {
  readonly counts: ConsumptionCounts = { handled: 0, duplicates: 0, failed: 0, rejected: 0, late: 0, crashLooped: 0 };
  readonly #host: ConsumptionHost;
  readonly #options: ConsumeOptions;
  readonly #topics: readonly string[];
  readonly #retry: Backoff;
  readonly #maxStarts: number;
  readonly #lock = new SharedLock();
  /** Partitions of which a delivery has committed in this process. */
  readonly #committedPlaces = new Set<string>();
  /** Messages that failed in this process, so that their redelivery is expected and need not run alone. */
  readonly #failedHere = new Set<string>();
  readonly #purge: Loop<number>;
  readonly #telemetry = new Telemetry('@holdfast/outbox');
  readonly #handler: NonNullable<ConsumeOptions['handler']>;
  readonly #batcher: Batcher<Delivery, Entry | 'failed'> | undefined;
  #subscription: Subscription | undefined;

  constructor(host: ConsumptionHost, options: ConsumeOptions) {
    this.#host = host;
    this.#options = options;
    keyText('consumer', options.consumer, 100);
    const { handler, handleMany } = options;
    if ((handler === undefined) === (handleMany === undefined))
      throw new InvalidArgumentError('consume takes either handler or handleMany; pass one of them.');
    this.#handler = handler ?? ((message, trx) => handleMany?.([message], trx));
    this.#batcher =
      handleMany &&
      new Batcher({
        // Messages of a batch that fails are handled one by one, which finds the failing one.
        run: (deliveries) => this.#transactMany(deliveries, handleMany).catch(() => deliveries.map(() => 'failed' as const)),
      });
    this.#topics = typeof options.topic === 'string' ? [options.topic] : options.topic;
    if (this.#topics.length === 0) throw new InvalidArgumentError('topic is empty; name at least one.');
    this.#retry = options.retry ?? exponential({ first: '1s', cap: '1m' });
    this.#maxStarts = wholeNumber('maxStarts', options.maxStarts ?? 3);
    this.#purge = defineLoop({
      name: 'inbox purge',
      logger: host.logger,
      runOnce: ({ signal }) => host.purge({ signal }),
      pauseMs: () => 600_000,
    });
  }

  /** True while messages arrive. */
  get ready(): boolean {
    return this.#subscription?.ready ?? false;
  }

  /** Subscribes, also after `close`. */
  async start(): Promise<void> {
    const { subscriber, consumer, concurrency = this.#batcher ? 100 : 6, handlerTimeoutMs } = this.#options;
    const options = { group: consumer, concurrency, ...(handlerTimeoutMs === undefined ? {} : { handlerTimeoutMs }) };
    this.#subscription = await subscriber.subscribe(this.#topics, options, (delivery) => this.#deliver(delivery));
    await this.#purge.start();
  }

  /** Takes no more messages, and waits for the handlers under way. */
  async close(): Promise<void> {
    await this.#subscription?.close();
    await this.#purge.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Handles a message that was set aside, even if the inbox remembers it. Returns false if no such message is set aside. If the handler throws
   * or rejects, or the transaction does not commit, it throws, and the message stays set aside.
   */
  async force(messageId: string): Promise<boolean> {
    const { consumer } = this.#options;
    const [parked] = await this.#host.table.parked(consumer, messageId, 1);
    if (!parked) return false;
    return this.#commit(async (trx, sql) => {
      // Another call handled it since.
      if ((await this.#host.table.unpark(sql, consumer, messageId)) === 0) return { result: false, verdict: undefined };
      await this.#host.table.enter(sql, consumer, messageId, undefined, this.#host.retentionMs);
      const verdict = await this.#handler(parked.message, trx, { attempt: 1, signal: new AbortController().signal });
      if (isVerdict(verdict) && verdict.outcome !== 'ack')
        throw new InvalidArgumentError(`The handler rejected the message ${messageId}; it stays set aside.`);
      return { result: true, verdict: undefined };
    }, `The transaction did not commit, so the message ${messageId} was not handled; it stays set aside.`);
  }

  async #deliver(delivery: Delivery): Promise<DeliveryVerdict> {
    const { message, attempt } = delivery;
    const place = placeOf(delivery);
    const expected = this.#committedPlaces.has(place) && (attempt === 1 || this.#failedHere.has(message.id));
    if (expected) return this.#lock.together(() => this.#handle(delivery, place, this.#batcher));
    return this.#lock.alone(async () => {
      const { consumer } = this.#options;
      const starts = await this.#host.table.started(consumer, message.id);
      if (starts > this.#maxStarts) {
        const parked = await this.#park(message, 'crash-loop');
        await this.#host.table.ended(consumer, message.id);
        this.counts.crashLooped += 1;
        this.#host.logger.error(
          { id: message.id, topic: message.topic, starts: starts - 1 },
          'a message ended the process at each of its starts; it is set aside, and the next message is handled',
        );
        return parked;
      }
      await checkpoint('inbox:started');
      const verdict = await this.#handle(delivery, place);
      await this.#host.table.ended(consumer, message.id);
      return verdict;
    });
  }

  async #handle(delivery: Delivery, place: string, batcher?: Batcher<Delivery, Entry | 'failed'>): Promise<DeliveryVerdict> {
    const { message, attempt } = delivery;
    try {
      const batched = (await batcher?.call(delivery)) ?? 'failed';
      const outcome = batched === 'failed' ? await this.#transact(delivery) : batched;
      if (outcome === 'late') return await this.#late(delivery);
      this.#failedHere.delete(message.id);
      if (outcome === 'duplicate') this.counts.duplicates += 1;
      else {
        this.counts.handled += 1;
        this.#committedPlaces.add(place);
      }
      this.#telemetry.settled.add(1, { kind: message.topic, outcome });
      await checkpoint('inbox:committed');
      return ack;
    } catch (error) {
      if (error instanceof RolledBack) {
        this.counts.rejected += 1;
        return error.verdict;
      }
      this.counts.failed += 1;
      if (this.#failedHere.size > 10_000) this.#failedHere.clear();
      this.#failedHere.add(message.id);
      const waitMs = this.#retry.delayMs(attempt);
      this.#host.logger.warn(
        { err: error, id: message.id, topic: message.topic, attempt },
        waitMs === undefined
          ? 'a handler failed for the last time; its message is rejected'
          : 'a handler failed; its message is delivered again',
      );
      return waitMs === undefined
        ? { outcome: 'reject', reason: `failed ${attempt} times: ${String((error as Error)?.message ?? error).slice(0, 500)}` }
        : { outcome: 'retry', afterMs: waitMs };
    }
  }

  async #transact(delivery: Delivery, ignoreAge = false): Promise<Entry> {
    const { table, retentionMs } = this.#host;
    const { message, attempt, signal } = delivery;
    return this.#commit(async (trx, sql) => {
      const firstPut = ignoreAge ? undefined : firstPutAt(message);
      const entry = await table.enter(sql, this.#options.consumer, message.id, firstPut, retentionMs);
      const handled = async () => this.#handler(message, trx, { attempt, signal });
      return { result: entry, verdict: entry === 'first' ? await unlessGivenUp(handled(), signal, graceMs) : undefined };
    });
  }

  async #transactMany(deliveries: readonly Delivery[], handleMany: NonNullable<ConsumeOptions['handleMany']>): Promise<readonly Entry[]> {
    const { table, retentionMs } = this.#host;
    const messages = deliveries.map(({ message }) => ({ id: message.id, firstPutAt: firstPutAt(message) }));
    return this.#commit(async (trx, sql) => {
      const entries = await table.enterMany(sql, this.#options.consumer, messages, retentionMs);
      const first = deliveries.flatMap(({ message }, i) => (entries[i] === 'first' ? [message] : []));
      const handled = async () => handleMany(first, trx);
      const signal = AbortSignal.any(deliveries.map((delivery) => delivery.signal));
      return { result: entries, verdict: first.length > 0 ? await unlessGivenUp(handled(), signal, graceMs) : undefined };
    });
  }

  async #commit<T>(
    fn: (trx: Knex.Transaction, sql: SqlRunner) => Promise<{ readonly result: T; readonly verdict: unknown }>,
    notCommitted: string = 'The transaction did not commit; its messages are delivered again.',
  ): Promise<T> {
    const { database } = this.#host;
    let committed = false;
    const result = await database.knex.transaction(
      async (trx) => {
        const sql = await database.within(trx, 'consume');
        await afterCommit(trx, () => {
          committed = true;
        });
        const done = await fn(trx, sql);
        if (isVerdict(done.verdict) && done.verdict.outcome !== 'ack') throw new RolledBack(done.verdict);
        return done.result;
      },
      database.family === 'mysql' ? { isolationLevel: 'read committed' } : {},
    );
    await undefined;
    // knex also resolves if the server answered COMMIT with ROLLBACK. Nothing was stored then.
    if (!committed) throw new TransientDatabaseError(notCommitted, undefined);
    return result;
  }

  async #late(delivery: Delivery): Promise<DeliveryVerdict> {
    const { message } = delivery;
    this.counts.late += 1;
    if (this.#options.late === 'run') {
      await this.#transact(delivery, true);
      return ack;
    }
    const parked = await this.#park(message, 'late');
    this.#host.logger.warn(
      { id: message.id, topic: message.topic, first: message.headers.ce_time },
      'a message is older than the retention of the inbox, so it may have been handled; it is set aside (consumption.force handles it)',
    );
    return parked;
  }

  /** Sets a message aside, or gives it to the broker's dead letters if the database can never take it, so that it holds up no other. */
  async #park(message: Message, reason: string): Promise<DeliveryVerdict> {
    try {
      await this.#host.table.park(this.#options.consumer, message, reason);
      return ack;
    } catch (error) {
      if (!HoldfastError.is(error, 'invalid-argument')) throw error;
      return { outcome: 'reject', reason: `${reason}, and it could not be set aside: ${(error as Error).message.slice(0, 300)}` };
    }
  }
}

function isVerdict(value: unknown): value is DeliveryVerdict {
  return typeof value === 'object' && value !== null && 'outcome' in value && ['ack', 'retry', 'reject'].includes(String(value.outcome));
}

/** The partition, stream, queue or lane that the delivery was read from. */
function placeOf({ message, at }: Delivery): string {
  return `${message.topic}/${at.partition ?? at.stream ?? at.queue ?? at.lane ?? ''}`;
}
