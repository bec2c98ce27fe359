import { idle, type Logger, OutageLog, uuidv7, wait } from '@holdfast/core';
import type { Redis } from 'ioredis';
import { asDead } from '../adapter/dead-headers.ts';
import type { Handle } from '../adapter/handling.ts';
import { keepOpen } from '../adapter/keep-open.ts';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import type { MemberOptions } from '../adapter/member-options.ts';
import type { StartableSubscription } from '../adapter/subscriptions.ts';
import type { Message } from '../port/message.ts';
import { type DeliveryVerdict, retry } from '../port/subscriber.ts';
import { answered } from './answered.ts';
import { BlockingReader } from './blocking-reader.ts';
import { LaneShare } from './lane-share.ts';
import { claimPending } from './pending-entries.ts';
import { redisRefusal } from './redis-refusal.ts';
import { removeConsumer, removeIdleConsumers } from './remove-consumers.ts';
import { ensureGroup, fields, lastId, type RawEntry, readEntry, type StreamLayout, streamKey } from './streams.ts';

export interface RedisSubscriptionOptions extends MemberOptions, StreamLayout {
  readonly client: Redis;
  readonly topics: readonly string[];
  readonly source: string;
  readonly leaseMs: number;
  readonly logger: Logger;
}

const maxPending = 1_000;

/**
 * Reads the lanes that this member owns. When it takes a lane over, it first delivers the entries that the last owner left without a
 * verdict, in order, and then reads on.
 */
export class RedisSubscription implements StartableSubscription {
  readonly #options: RedisSubscriptionOptions;
  readonly #runner: KeyedRunner;
  readonly #outage: OutageLog;
  readonly #reader: BlockingReader;
  /** The topic of each stream. */
  readonly #streams: ReadonlyMap<string, string>;
  readonly #share: LaneShare;
  readonly #consumer = uuidv7();
  readonly #closing = new AbortController();
  /** Deliveries in progress per stream. */
  readonly #inProgress = new Map<string, number>();
  /** Per stream, a signal for the loss of the lane. */
  readonly #losses = new Map<string, AbortController>();
  /** Entries that the runner has. */
  readonly #held = new Set<string>();
  /** Streams that were taken over, or of which a reply with entries may have been lost: their pending entries are to be read first. */
  readonly #toRecheck = new Set<string>();
  #recheckTimer: NodeJS.Timeout | undefined;
  readonly #last = new Map<string, string>();
  #running: Promise<unknown> | undefined;
  #ready = false;

  constructor(options: RedisSubscriptionOptions, handle: Handle) {
    this.#options = options;
    const { client, topics, group, lanes } = options;
    this.#streams = new Map(
      topics.flatMap((topic) => Array.from({ length: lanes }, (_, lane): [string, string] => [streamKey(options, topic, lane), topic])),
    );
    this.#share = new LaneShare({
      client,
      scope: `${options.prefix}:group:${group}`,
      member: this.#consumer,
      lanes: [...this.#streams.keys()],
      leaseMs: options.leaseMs,
      onTaken: (stream) => this.#toRecheck.add(stream),
      onLost: (stream) => this.#lose(stream),
    });
    this.#runner = new KeyedRunner({ concurrency: options.concurrency ?? 6, handle });
    this.#outage = new OutageLog(options.logger, { group: options.group, topics: options.topics });
    this.#reader = new BlockingReader({
      client,
      onGap: () => this.#recheckAll(),
      onError: (err) => this.#outage.failed(err, 'the Redis connection of a reader failed; reconnecting'),
    });
  }

  get ready(): boolean {
    return this.#ready;
  }

  async start(): Promise<void> {
    const { mode, client, group, topics, logger } = this.#options;
    const untilOpen = (open: () => Promise<undefined>): Promise<void> =>
      keepOpen({
        what: `Redis, the subscription of ${group} to ${topics.join(', ')}`,
        open,
        isPermanent: (error) => ['fatal', 'poison'].includes(redisRefusal(error as Error).outcome),
        signal: this.#closing.signal,
        logger,
      }).opened;
    if (mode === 'broadcast') {
      await untilOpen(async () => {
        for (const stream of this.#streams.keys()) this.#last.set(stream, await answered(lastId(client, stream)));
        return undefined;
      });
      this.#running = this.#loop(() => this.#readBroadcast());
    } else {
      await untilOpen(async () => {
        await answered(ensureGroup(client, [...this.#streams.keys()], group));
        await this.#refresh();
        return undefined;
      });
      this.#running = Promise.all([this.#loop(() => this.#readOwned()), this.#loop(() => this.#keepShare())]);
    }
    this.#ready = !this.#closing.signal.aborted;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#ready = false;
    this.#closing.abort(new Error('the subscription is closed'));
    this.#reader.disconnect();
    clearTimeout(this.#recheckTimer);
    await this.#running;
    clearTimeout(this.#recheckTimer);
    await this.#runner.close(this.#options.closeMs ?? 30_000);
    if (this.#options.mode !== 'broadcast' && this.#options.client.status === 'ready') await answered(this.#leave()).catch(() => undefined);
  }

  /** Gives the lanes up, and removes this member's consumers. */
  async #leave(): Promise<void> {
    const { client, group } = this.#options;
    await Promise.all([...this.#streams.keys()].map((stream) => removeConsumer(client, stream, group, this.#consumer)));
    await this.#share.leave();
  }

  async #loop(once: () => Promise<void>): Promise<void> {
    for (let pauseMs = 50; !this.#closing.signal.aborted; ) {
      try {
        await once();
        this.#outage.works('a subscription reads from Redis again');
        pauseMs = 50;
      } catch (err) {
        if (this.#closing.signal.aborted) return;
        this.#outage.failed(err, 'reading from Redis failed; trying again');
        // After a flush or a failover the groups may not exist; they must before they can be read.
        if (this.#options.mode !== 'broadcast' && /NOGROUP/.test((err as Error).message))
          await ensureGroup(this.#options.client, [...this.#streams.keys()], this.#options.group).catch(() => undefined);
        await wait(pauseMs, this.#closing.signal).catch(() => undefined);
        pauseMs = Math.min(pauseMs * 2, 5_000);
      }
    }
  }

  async #keepShare(): Promise<void> {
    await idle(this.#options.leaseMs / 3, this.#closing.signal).catch(() => undefined);
    if (!this.#closing.signal.aborted) await this.#refresh();
  }

  async #refresh(): Promise<void> {
    await answered(this.#share.refresh((lane) => (this.#inProgress.get(lane) ?? 0) === 0));
  }

  /** Delivers, in order, the entries that the last owner of the lane read and did not settle. */
  async #takeOver(stream: string): Promise<void> {
    const { client, group } = this.#options;
    for await (const pending of claimPending(client, stream, group, this.#consumer)) {
      // The lane was lost meanwhile, and what was pushed may have been dropped: the next pass begins anew.
      if (this.#toRecheck.has(stream)) return;
      for (const { entry, attempt } of pending) if (!this.#held.has(`${stream} ${entry[0].toString()}`)) this.#push(stream, entry, attempt);
    }
    await removeIdleConsumers(client, stream, group, this.#consumer);
  }

  async #readOwned(): Promise<void> {
    const owned = this.#share.owned;
    // Only lanes whose lease is certain: the outage that lost a reply may have lost the lane, too.
    for (const stream of owned) {
      if (!this.#toRecheck.delete(stream)) continue;
      try {
        await answered(this.#takeOver(stream));
      } catch (error) {
        this.#toRecheck.add(stream);
        throw error;
      }
    }
    if (owned.length === 0 || this.#runner.pending >= maxPending) return wait(20, this.#closing.signal).catch(() => undefined);
    for (const [stream, entries] of await this.#reader.ofGroup(this.#options.group, this.#consumer, owned)) {
      // The lane was lost during the read, and its earlier entries were dropped: these are pending behind them, and are taken over in order.
      if (this.#toRecheck.has(stream)) continue;
      for (const entry of entries) this.#push(stream, entry, 1);
    }
  }

  async #readBroadcast(): Promise<void> {
    for (const [stream, entries] of await this.#reader.after(this.#last)) {
      for (const entry of entries) {
        this.#last.set(stream, entry[0].toString());
        this.#push(stream, entry, 1);
      }
    }
  }

  /** Has all pending entries read, now and in 3 s: a server that was frozen may run a read that was given up after the first check. */
  #recheckAll(): void {
    const mark = (): void => {
      for (const stream of this.#streams.keys()) this.#toRecheck.add(stream);
    };
    mark();
    clearTimeout(this.#recheckTimer);
    this.#recheckTimer = setTimeout(mark, 3_000);
  }

  #push(stream: string, entry: RawEntry, attempt: number): void {
    const topic = this.#streams.get(stream) ?? '';
    const id = entry[0].toString();
    // The entry was deleted or trimmed while it was pending.
    if (entry[1] === null) return void this.#options.client.xack(stream, this.#options.group, id).catch(() => undefined);
    const message = readEntry(entry, topic, stream);
    let lost = this.#losses.get(stream);
    if (!lost) this.#losses.set(stream, (lost = new AbortController()));
    const { signal } = lost;
    this.#held.add(`${stream} ${id}`);
    this.#inProgress.set(stream, (this.#inProgress.get(stream) ?? 0) + 1);
    this.#runner.push({
      message,
      attempt,
      at: { stream, id },
      signal,
      settle: async (verdict) => {
        if (verdict.outcome === 'retry') {
          // A message without a key waits in the runner, still pending in Redis, for its next delivery; no other message waits for it.
          if (!signal.aborted) return verdict;
          this.#release(stream, id);
          this.#toRecheck.add(stream);
          return undefined;
        }
        const again = await this.#settle(stream, id, message, verdict);
        if (again) return again;
        this.#release(stream, id);
        return undefined;
      },
    });
  }

  /** Aborts what this member has of a lane, and drops what has not started: the lane's owner reads all of it again. */
  #lose(stream: string): void {
    this.#losses
      .get(stream)
      ?.abort(new Error('Another member has taken over the lane of this message; the message will be delivered again there.'));
    this.#losses.delete(stream);
    for (const { at } of this.#runner.drop(({ at }) => at.stream === stream)) this.#release(stream, String(at.id));
  }

  #release(stream: string, id: string): void {
    this.#held.delete(`${stream} ${id}`);
    this.#inProgress.set(stream, (this.#inProgress.get(stream) ?? 1) - 1);
  }

  /** Returns a `retry` if the message of a broadcast could not be stored with the dead letters: nothing else would deliver it again. */
  async #settle(
    stream: string,
    id: string,
    message: Message,
    verdict: Exclude<DeliveryVerdict, { outcome: 'retry' }>,
  ): Promise<DeliveryVerdict | undefined> {
    const { client, group, mode, source } = this.#options;
    // Members of a broadcast have no entries that wait for an ack.
    const broadcast = mode === 'broadcast';
    if (broadcast && verdict.outcome === 'ack') return undefined;
    try {
      if (verdict.outcome === 'reject') {
        const dead = asDead(message, group, verdict.reason);
        // Not in one transaction with the ack: Redis would run the ack also if it refuses this.
        await answered(client.xadd(streamKey(this.#options, message.topic, 'dead'), '*', ...fields(dead, source)));
      }
      if (!broadcast) await answered(client.xack(stream, group, id));
    } catch (err) {
      this.#options.logger.debug({ err, id: message.id }, 'a verdict did not reach Redis');
      if (broadcast) return retry(1_000);
      // If the entry is still pending, it is delivered again.
      this.#toRecheck.add(stream);
    }
    return undefined;
  }
}
