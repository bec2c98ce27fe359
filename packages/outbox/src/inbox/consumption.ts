import type { Delivery, DeliveryVerdict, Message, Subscriber, Subscription } from '@holdfast/broker';
import {
  afterCommit,
  type Backoff,
  Batcher,
  checkpoint,
  type Database,
  defineLoop,
  exponential,
  InvalidArgumentError,
  keyText,
  type Logger,
  type Loop,
  type SqlRunner,
  Telemetry,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { firstPutAt } from './first-put-at.ts';
import type { Entry, InboxTable } from './inbox-table.ts';
import { SharedLock } from './shared-lock.ts';

/** Which topic is consumed as whom, and what is done with a message. */
export interface ConsumeOptions {
  readonly subscriber: Subscriber;
  readonly topic: string | readonly string[];
  /** Names who handles: the broker's group, and the scope of the inbox. At most 100 characters. */
  readonly consumer: string;
  /**
   * What to do with a message, in a transaction that also notes it as handled. Return `reject(reason)` to put it with the broker's dead
   * letters; throw to have it again later. In both cases the transaction rolls back.
   */
  readonly handler?: (
    message: Message,
    trx: Knex.Transaction,
    context: { readonly attempt: number; readonly signal: AbortSignal },
  ) => unknown;
  /**
   * Instead of `handler`: takes messages that arrived together, in one transaction with their notes. When it throws or rejects, each of
   * them is handed over again in a transaction of its own, so that one message can't hold up another. `concurrency` is how many can
   * meet; messages of one key never do, since the next waits for the one before.
   */
  readonly handleMany?: (messages: readonly Message[], trx: Knex.Transaction) => unknown;
  /** Handlers at a time in this process. Default 6; with `handleMany` 100. */
  readonly concurrency?: number;
  /** When a message whose handler threw comes again. Default: 1 s, doubled up to a minute, without end; where it ends, the message is rejected. */
  readonly retry?: Backoff;
  /** Starts that end with the death of the process before the message is set aside. Default 3. */
  readonly maxStarts?: number;
  /** A message that is older than the retention and not remembered: set it aside (default), or handle it, at the risk of a second time. */
  readonly late?: 'park' | 'run';
}

/** What a consumption has seen since the process began. */
export interface ConsumptionCounts {
  handled: number;
  duplicates: number;
  failed: number;
  rejected: number;
  late: number;
  crashLooped: number;
}

/** What a consumption needs of its inbox. */
export interface ConsumptionHost {
  readonly database: Database;
  readonly logger: Logger;
  readonly table: InboxTable;
  readonly retentionMs: number;
  /** Deletes notes that are older than the retention. Returns how many. */
  readonly purge: () => Promise<number>;
}

const ack: DeliveryVerdict = { outcome: 'ack' };

class Rolled extends Error {
  readonly verdict: DeliveryVerdict;

  constructor(verdict: DeliveryVerdict) {
    super('rolled back');
    this.verdict = verdict;
  }
}

/**
 * Deliveries of a broker, each in a transaction with its note in the inbox; the broker is told only after the commit.
 *
 * A message that kills its process comes again, to the next process, for ever. So after a start (and for a message that was
 * delivered before, to who knows whom) deliveries of a partition run alone, with their start noted first, until one of them commits: what
 * kills alone is counted, and set aside after `maxStarts`.
 */
export class Consumption {
  readonly counts: ConsumptionCounts = { handled: 0, duplicates: 0, failed: 0, rejected: 0, late: 0, crashLooped: 0 };
  readonly #host: ConsumptionHost;
  readonly #options: ConsumeOptions;
  readonly #topics: readonly string[];
  readonly #retry: Backoff;
  readonly #maxStarts: number;
  readonly #lock = new SharedLock();
  readonly #proven = new Set<string>();
  /** Messages that failed here, in this life: their next delivery is no riddle. */
  readonly #failedHere = new Set<string>();
  readonly #purge: Loop<number>;
  readonly #telemetry = new Telemetry('@holdfast/outbox');
  readonly #handler: NonNullable<ConsumeOptions['handler']>;
  readonly #together: Batcher<Delivery, Entry | 'failed'> | undefined;
  #subscription: Subscription | undefined;

  constructor(host: ConsumptionHost, options: ConsumeOptions) {
    this.#host = host;
    this.#options = options;
    keyText('consumer', options.consumer, 100);
    const { handler, handleMany } = options;
    if ((handler === undefined) === (handleMany === undefined))
      throw new InvalidArgumentError('consume takes a handler, or handleMany in its place; pass one of them.');
    this.#handler = handler ?? ((message, trx) => handleMany?.([message], trx));
    this.#together =
      handleMany &&
      new Batcher({
        // What fails is tried again message by message, which says why.
        run: (deliveries) => this.#transactMany(deliveries, handleMany).catch(() => deliveries.map(() => 'failed' as const)),
      });
    this.#topics = typeof options.topic === 'string' ? [options.topic] : options.topic;
    if (this.#topics.length === 0) throw new InvalidArgumentError('topic is empty; name at least one.');
    this.#retry = options.retry ?? exponential({ first: '1s', cap: '1m' });
    this.#maxStarts = options.maxStarts ?? 3;
    if (!Number.isInteger(this.#maxStarts) || this.#maxStarts < 1)
      throw new InvalidArgumentError(`maxStarts is ${options.maxStarts}; give a whole number of at least 1.`);
    this.#purge = defineLoop({
      name: 'inbox purge',
      logger: host.logger,
      runOnce: () => host.purge(),
      pauseMs: () => 600_000,
    });
  }

  /** Whether messages arrive at present. */
  get ready(): boolean {
    return this.#subscription?.ready ?? false;
  }

  /** Begins, or begins again after it was closed. */
  async start(): Promise<void> {
    const { subscriber, consumer, concurrency = this.#together ? 100 : 6 } = this.#options;
    this.#subscription = await subscriber.subscribe(this.#topics, { group: consumer, concurrency }, (delivery) => this.#deliver(delivery));
    await this.#purge.start();
  }

  /** Takes no more, and waits for handlers under way. */
  async close(): Promise<void> {
    await this.#subscription?.close();
    await this.#purge.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Handles a message that was set aside, whatever the inbox says of it. Returns whether there was one. */
  async force(messageId: string): Promise<boolean> {
    const { consumer } = this.#options;
    const [parked] = await this.#host.table.parked(consumer, messageId, 1);
    if (!parked) return false;
    await this.#host.database.knex.transaction(async (trx) => {
      const sql = await this.#host.database.within(trx, 'force');
      if ((await this.#host.table.unpark(sql, consumer, messageId)) === 0) return;
      await this.#host.table.enter(sql, consumer, messageId, undefined, this.#host.retentionMs);
      const verdict = await this.#handler(parked.message, trx, { attempt: 1, signal: new AbortController().signal });
      if (isVerdict(verdict) && verdict.outcome !== 'ack')
        throw new InvalidArgumentError(`The handler refused the message ${messageId} again; it stays set aside.`);
    });
    return true;
  }

  async #deliver(delivery: Delivery): Promise<DeliveryVerdict> {
    const { message, attempt } = delivery;
    const place = placeOf(delivery);
    const known = this.#proven.has(place) && (attempt === 1 || this.#failedHere.has(message.id));
    if (known) return this.#lock.together(() => this.#handle(delivery, place, this.#together));
    return this.#lock.alone(async () => {
      const { consumer } = this.#options;
      const starts = await this.#host.table.started(consumer, message.id);
      if (starts > this.#maxStarts) {
        await this.#host.table.park(consumer, message, 'crash-loop');
        await this.#host.table.ended(consumer, message.id);
        this.counts.crashLooped += 1;
        this.#host.logger.error(
          { id: message.id, topic: message.topic, starts: starts - 1 },
          'a message ended its process at each start; it is set aside, and the next one is handled',
        );
        return ack;
      }
      await checkpoint('inbox:started');
      const verdict = await this.#handle(delivery, place);
      await this.#host.table.ended(consumer, message.id);
      return verdict;
    });
  }

  async #handle(delivery: Delivery, place: string, together?: Batcher<Delivery, Entry | 'failed'>): Promise<DeliveryVerdict> {
    const { message, attempt } = delivery;
    try {
      const joint = (await together?.call(delivery)) ?? 'failed';
      const outcome = joint === 'failed' ? await this.#transact(delivery) : joint;
      if (outcome === 'late') return await this.#late(delivery);
      this.#failedHere.delete(message.id);
      if (outcome === 'duplicate') this.counts.duplicates += 1;
      else {
        this.counts.handled += 1;
        this.#proven.add(place);
      }
      this.#telemetry.settled.add(1, { kind: message.topic, outcome });
      await checkpoint('inbox:committed');
      return ack;
    } catch (error) {
      if (error instanceof Rolled) {
        this.counts.rejected += 1;
        return error.verdict;
      }
      this.counts.failed += 1;
      if (this.#failedHere.size > 10_000) this.#failedHere.clear();
      this.#failedHere.add(message.id);
      const waitMs = this.#retry.delayMs(attempt);
      this.#host.logger.warn(
        { err: error, id: message.id, topic: message.topic, attempt },
        waitMs === undefined ? 'a handler failed for the last time; its message is rejected' : 'a handler failed; its message comes again',
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
      return { result: entry, verdict: entry === 'first' ? await this.#handler(message, trx, { attempt, signal }) : undefined };
    });
  }

  async #transactMany(deliveries: readonly Delivery[], handleMany: NonNullable<ConsumeOptions['handleMany']>): Promise<readonly Entry[]> {
    const { table, retentionMs } = this.#host;
    const messages = deliveries.map(({ message }) => ({ id: message.id, firstPutAt: firstPutAt(message) }));
    return this.#commit(async (trx, sql) => {
      const entries = await table.enterMany(sql, this.#options.consumer, messages, retentionMs);
      const first = deliveries.flatMap(({ message }, i) => (entries[i] === 'first' ? [message] : []));
      return { result: entries, verdict: first.length > 0 ? await handleMany(first, trx) : undefined };
    });
  }

  async #commit<T>(fn: (trx: Knex.Transaction, sql: SqlRunner) => Promise<{ readonly result: T; readonly verdict: unknown }>): Promise<T> {
    const { database } = this.#host;
    let committed = false;
    const result = await database.knex.transaction(
      async (trx) => {
        const sql = await database.within(trx, 'consume');
        await afterCommit(trx, () => {
          committed = true;
        });
        const done = await fn(trx, sql);
        if (isVerdict(done.verdict) && done.verdict.outcome !== 'ack') throw new Rolled(done.verdict);
        return done.result;
      },
      database.family === 'mysql' ? { isolationLevel: 'read committed' } : {},
    );
    await undefined;
    // knex resolves, too, where the server answered COMMIT with ROLLBACK: nothing was done then.
    if (!committed) throw new Error('The transaction did not commit; its messages come again.');
    return result;
  }

  async #late(delivery: Delivery): Promise<DeliveryVerdict> {
    const { message } = delivery;
    this.counts.late += 1;
    if (this.#options.late === 'run') {
      await this.#transact(delivery, true);
      return ack;
    }
    await this.#host.table.park(this.#options.consumer, message, 'late');
    this.#host.logger.warn(
      { id: message.id, topic: message.topic, first: message.headers.ce_time },
      'a message is older than the inbox remembers, so nobody can tell whether it was handled; it is set aside (consumption.force handles it)',
    );
    return ack;
  }
}

function isVerdict(value: unknown): value is DeliveryVerdict {
  return typeof value === 'object' && value !== null && 'outcome' in value && ['ack', 'retry', 'reject'].includes(String(value.outcome));
}

/** Where the delivery was read, without its position there. */
function placeOf({ message, at }: Delivery): string {
  return `${message.topic}/${at.partition ?? at.stream ?? at.queue ?? at.lane ?? ''}`;
}
