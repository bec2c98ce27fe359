import { type Database, idle, LaneFeed, type LaneRow, type Logger, uuidv7, type Wakers } from '@holdfast/core';
import { fromHeaders } from '../adapter/cloud-events.ts';
import type { Handle } from '../adapter/handling.ts';
import { keepOpen } from '../adapter/keep-open.ts';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import type { MemberOptions } from '../adapter/member-options.ts';
import type { StartableSubscription } from '../adapter/subscriptions.ts';
import { databaseRefusal } from './database-refusal.ts';
import { type DatabaseTopics, memberName, type TopicGroup } from './database-topics.ts';
import { lanesPerGroup } from './schema.ts';

export interface DatabaseSubscriptionOptions extends MemberOptions {
  readonly database: Database;
  readonly groups: DatabaseTopics;
  readonly topics: readonly string[];
  readonly wakers: Wakers;
  readonly leaseMs: number;
  readonly logger: Logger;
}

interface Row extends LaneRow {
  readonly topic: string;
  readonly headers: string;
  readonly body: Uint8Array;
}

const columns = ['topic', 'headers', 'body'];

/** The deliveries of a lane that are with the runner, and a signal for the loss of the lane. */
class LaneState {
  readonly lost = new AbortController();
  #running = 0;
  #idle: (() => void)[] = [];

  began(): void {
    this.#running += 1;
  }

  ended(): void {
    this.#running -= 1;
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Resolves when no delivery of the lane is with the runner. */
  async quiet(): Promise<void> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}

/** Reads this member's lanes of one topic. */
interface Feed {
  readonly group: TopicGroup;
  readonly feed: LaneFeed<Row>;
}

/**
 * A member of a group: it reads the lanes of each topic that it holds by lease. A row is deleted after its handler has given the
 * verdict; the rows that are left go to the next holder of the lane.
 */
export class DatabaseSubscription implements StartableSubscription {
  readonly #options: DatabaseSubscriptionOptions;
  readonly #runner: KeyedRunner;
  readonly #closing = new AbortController();
  readonly #feeds: Feed[] = [];
  /** The state of each lane that this member holds. */
  readonly #lanes = new Map<number, LaneState>();
  #unlisten: (() => void) | undefined;
  #heartbeat: Promise<void> | undefined;
  #ready = false;

  constructor(options: DatabaseSubscriptionOptions, handle: Handle) {
    this.#options = options;
    this.#runner = new KeyedRunner({ concurrency: options.concurrency ?? 6, handle });
  }

  get ready(): boolean {
    return this.#ready;
  }

  async start(): Promise<void> {
    const { groups, topics, group, mode, leaseMs, logger, wakers } = this.#options;
    const member = uuidv7();
    const name = mode === 'broadcast' ? memberName(group, member) : group;
    const made: TopicGroup[] = [];
    await keepOpen({
      what: `the broker in the database, the subscription of ${group} to ${topics.join(', ')}`,
      open: async () => {
        for (const topic of topics.slice(made.length))
          made.push(await groups.register(topic, name, mode === 'broadcast' ? leaseMs * 3 : undefined));
        return undefined;
      },
      isPermanent: (error) => databaseRefusal(error).outcome === 'fatal',
      signal: this.#closing.signal,
      logger,
    }).opened;
    if (this.#closing.signal.aborted) return;
    for (const one of made) this.#feeds.push({ group: one, feed: this.#feedOf(one, member) });
    this.#unlisten = wakers.listen((notes) => {
      for (const { feed } of this.#feeds) {
        if (notes.length === 0) feed.wake();
        for (const note of notes) feed.wake(Number(note));
      }
    });
    for (const { feed } of this.#feeds) await feed.start();
    if (mode === 'broadcast') this.#heartbeat = this.#keepAlive(leaseMs);
    this.#ready = true;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#ready = false;
    this.#closing.abort(new Error('the subscription is closed'));
    this.#unlisten?.();
    for (const { feed } of this.#feeds) feed.pauseReading();
    await this.#runner.close(this.#options.closeMs ?? 30_000);
    await this.#heartbeat;
    for (const { feed, group } of this.#feeds) {
      await feed.stop();
      if (this.#options.mode === 'broadcast') await this.#options.groups.remove(group.id).catch(() => undefined);
    }
  }

  #feedOf(group: TopicGroup, owner: string): LaneFeed<Row> {
    const { database, leaseMs, logger } = this.#options;
    const drop = (lane: number): void => {
      const dropped = this.#runner.drop(({ at }) => at.lane === lane);
      feed.forget(dropped.map(({ at }) => ({ id: String(at.id), lane })));
      for (const _ of dropped) this.#lanes.get(lane)?.ended();
    };
    const feed: LaneFeed<Row> = new LaneFeed<Row>({
      database,
      shape: { table: 'broker_message', columns, large: ['body', 'headers'] },
      scope: `broker:${group.id}`,
      lanes: Array.from({ length: lanesPerGroup }, (_, lane) => group.id * lanesPerGroup + lane),
      owner,
      leaseMs,
      window: 1_000,
      rowBytes: ({ body, headers }) => body.byteLength + headers.length,
      onTaken: (lane) => this.#lanes.set(lane, new LaneState()),
      onRows: (rows) => {
        for (const row of rows) this.#deliver(feed, row);
      },
      onLost: (lane) => {
        this.#lanes
          .get(lane)
          ?.lost.abort(new Error('Another member has taken over the lane of this message; the message will be delivered again there.'));
        drop(lane);
      },
      onDrain: async (lane) => {
        drop(lane);
        await this.#lanes.get(lane)?.quiet();
      },
      logger,
    });
    return feed;
  }

  #deliver(feed: LaneFeed<Row>, row: Row): void {
    const state = this.#lanes.get(row.lane);
    if (!state || !feed.holds(row.lane)) {
      feed.forget([row]);
      return;
    }
    const message = fromHeaders(JSON.parse(row.headers) as Record<string, string>, row.topic, `${row.topic}/${row.id}`, row.body);
    state.began();
    this.#runner.push({
      message,
      attempt: 1,
      at: { lane: row.lane, id: row.id },
      signal: state.lost.signal,
      settle: async (verdict) => {
        if (verdict.outcome === 'ack') feed.remove([row]);
        else if (verdict.outcome === 'reject') await this.#deadLetter(feed, row, verdict.reason);
        else if (state.lost.signal.aborted) feed.forget([row]);
        // A message without a key waits in the runner for its next delivery; no other message waits for it.
        else return verdict;
        state.ended();
        return undefined;
      },
    });
  }

  async #deadLetter(feed: LaneFeed<Row>, row: Row, reason: string): Promise<void> {
    const { database, group, logger } = this.#options;
    const message = database.table('broker_message');
    const columns = 'topic, message_key, message_id, headers, body, content_type';
    const of = `lane = ${row.lane} AND id = ${BigInt(row.id)}`;
    try {
      await database.transaction(async (sql) => {
        await sql.run(
          `INSERT INTO ${database.table('broker_dead')} (id, group_name, ${columns}, reason, dead_at) SELECT id, ?, ${columns}, ?, {now} FROM ${message} WHERE ${of}`,
          [group, reason],
        );
        await sql.run(`DELETE FROM ${message} WHERE ${of}`);
      });
    } catch (err) {
      logger.debug({ err, id: row.id }, 'a verdict did not reach the database; the message is delivered again');
    }
    feed.forget([row]);
  }

  async #keepAlive(leaseMs: number): Promise<void> {
    const { groups, logger } = this.#options;
    while (!this.#closing.signal.aborted) {
      await idle(leaseMs / 2, this.#closing.signal).catch(() => undefined);
      for (const { group } of this.#feeds) {
        if (this.#closing.signal.aborted) return;
        await groups
          .renew(group, leaseMs * 3)
          .catch((err) => logger.debug({ err }, 'the heartbeat of a broadcast did not reach the database'));
      }
    }
  }
}
