import { type Database, laneOf, type Wakers } from '@holdfast/core';
import { toHeaders } from '../adapter/cloud-events.ts';
import { oversized } from '../adapter/oversized.ts';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import type { Message } from '../port/message.ts';
import { publishTimedOut, refused } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import { databaseRefusal } from './database-refusal.ts';
import type { DatabaseTopics } from './database-topics.ts';
import { lanesPerGroup } from './schema.ts';
import { unstorable } from './unstorable.ts';

export interface DatabasePublisherOptions {
  readonly database: Database;
  readonly topics: DatabaseTopics;
  readonly wakers: Wakers;
  readonly source: string;
  readonly timeoutMs: number;
  readonly maxMessageBytes: number;
}

const columns = ['lane', 'key_lane', 'topic', 'message_key', 'message_id', 'headers', 'body', 'content_type'] as const;
const postgresTypes = ['integer', 'smallint', 'varchar', 'varchar', 'varchar', 'text', 'bytea', 'varchar'] as const;

/** Writes each batch in one transaction: all of it, or nothing. */
export class DatabasePublisher implements Publisher {
  readonly prefixPerKey = true;
  readonly #options: DatabasePublisherOptions;
  readonly #writing = new Set<Promise<unknown>>();
  #turn = 0;
  #closed = false;

  constructor(options: DatabasePublisherOptions) {
    this.#options = options;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    signal?.throwIfAborted();
    const { maxMessageBytes, timeoutMs } = this.#options;
    if (this.#closed) return batch.map(() => refused('retriable', new Error('The publisher is closed.')));
    const refusals = batch.map((message) => oversized(message, maxMessageBytes) ?? unstorable(message));
    const fits = batch.filter((_, i) => refusals[i] === undefined);
    const deadline = new PublishDeadline(timeoutMs, signal);
    const writing = this.#write(fits);
    this.#writing.add(writing);
    void writing.finally(() => this.#writing.delete(writing));
    try {
      const result = (await deadline.race(writing)) ?? publishTimedOut(timeoutMs);
      return batch.map(({ topic }, i) => refusals[i] ?? (result === 'written' ? { outcome: 'acked', at: { topic } } : result));
    } finally {
      deadline.end();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#writing);
  }

  /** Resolves with `written`, or with the result of every message of the batch if the transaction failed. */
  async #write(batch: readonly Message[]): Promise<PublishResult | 'written'> {
    const { database, topics, wakers, source } = this.#options;
    const names = [...new Set(batch.map(({ topic }) => topic))].sort();
    const woken = new Set<number>();
    if (batch.length === 0) return 'written';
    try {
      await database.transaction(async (sql) => {
        woken.clear();
        const lanes = await topics.lockLanes(sql, names);
        const rows = batch.flatMap((message) => {
          const own = message.key === undefined ? this.#turn++ % lanesPerGroup : laneOf(message.key, lanesPerGroup);
          const { topic, key, id, body, contentType } = message;
          const headers = JSON.stringify(toHeaders(message, source));
          return (lanes.get(topic) ?? []).map(({ base, spread }) => {
            const lane = spread ? base + own : base;
            if (lane >= 0) woken.add(lane);
            return [lane, own, topic, key ?? null, id, headers, body, contentType];
          });
        });
        await this.#insert(sql, rows);
      });
    } catch (error) {
      return databaseRefusal(error);
    }
    topics.committed(names);
    for (const lane of woken) wakers.wake(String(lane));
    return 'written';
  }

  async #insert(sql: Pick<Database, 'run'>, rows: readonly (readonly unknown[])[]): Promise<void> {
    const { database } = this.#options;
    const into = `INSERT INTO ${database.table('broker_message')} (${columns.join(', ')}, put_at)`;
    if (database.family === 'postgres' && rows.length > 1) {
      await sql.run(
        `${into} SELECT ${columns.map((name) => `u.${name}`).join(', ')}, {now} FROM unnest(${postgresTypes.map((type) => `?::${type}[]`).join(', ')}) WITH ORDINALITY AS u(${columns.join(', ')}, ord) ORDER BY u.ord`,
        columns.map((_, i) => rows.map((row) => row[i])),
      );
      return;
    }
    const chunk = database.family === 'sqlite' ? 100 : 500;
    for (let from = 0; from < rows.length; from += chunk) {
      const part = rows.slice(from, from + chunk);
      await sql.run(
        `${into} VALUES ${part.map(() => `(${columns.map(() => '?').join(', ')}, {now})`).join(', ')}`,
        part.flatMap((row) => [...row]),
      );
    }
  }
}
