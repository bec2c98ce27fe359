import { type Database, forUpdate, laneOf, unfitText, type Wakers } from '@holdfast/core';
import { fromHeaders } from '../adapter/cloud-events.ts';
import { nobodySubscribes } from '../adapter/nobody-subscribes.ts';
import type { DeadLetter, DeadLetterQuery, DeadLetters, RedriveQuery } from '../port/dead-letters.ts';
import { isMemberOf } from './database-topics.ts';
import { lanesPerGroup } from './schema.ts';

export interface DatabaseDeadLettersOptions {
  readonly database: Database;
  readonly wakers: Wakers;
}

interface Row {
  readonly id: string | number;
  readonly headers: string;
  readonly body: Uint8Array;
  readonly reason: string;
}

const chunk = 100;
const idsPerRead = 500;
const columns = 'topic, message_key, message_id, headers, body, content_type';

/** The dead letters of all groups, in a table. */
export class DatabaseDeadLetters implements DeadLetters {
  readonly #options: DatabaseDeadLettersOptions;
  readonly #dead: string;
  #turn = 0;

  constructor(options: DatabaseDeadLettersOptions) {
    this.#options = options;
    this.#dead = options.database.table('broker_dead');
  }

  async list({ topic, group, limit = 100 }: DeadLetterQuery): Promise<readonly DeadLetter[]> {
    const rows = await this.#options.database.rows<Row>(
      `SELECT id, headers, body, reason FROM ${this.#dead} d WHERE group_name = ? AND topic = ? ORDER BY d.id LIMIT ${limit}`,
      [group, topic],
    );
    return rows.map(({ id, headers, body, reason }) => ({
      message: fromHeaders(JSON.parse(headers) as Record<string, string>, topic, `${topic}/${id}`, body),
      reason,
    }));
  }

  async redrive({ topic, group, limit = Number.POSITIVE_INFINITY, ids }: RedriveQuery): Promise<number> {
    const { database } = this.#options;
    if (ids) return this.#redriveRows(topic, group, (await this.#rowsOf(topic, group, ids)).slice(0, limit));
    // Those that are rejected again meanwhile are not redriven a second time: they get higher ids.
    const [newest] = await database.rows<{ id: string | number | null }>(
      `SELECT MAX(id) AS id FROM ${this.#dead} WHERE group_name = ? AND topic = ?`,
      [group, topic],
    );
    if (newest?.id === null || newest?.id === undefined) return 0;
    let moved = 0;
    while (moved < limit) {
      const part = await this.#redrive(topic, group, `id <= ${BigInt(newest.id)}`, Math.min(chunk, limit - moved));
      if (part === 0) break;
      moved += part;
    }
    return moved;
  }

  /** Moves rows by their ids, chunk by chunk. Those that another process has moved meanwhile are skipped. */
  async #redriveRows(topic: string, group: string, rows: readonly bigint[]): Promise<number> {
    let moved = 0;
    for (let from = 0; from < rows.length; from += chunk)
      moved += await this.#redrive(topic, group, `id IN (${rows.slice(from, from + chunk).join(', ')})`, chunk);
    return moved;
  }

  /** The ids of the rows that hold some messages, oldest first. */
  async #rowsOf(topic: string, group: string, messageIds: readonly string[]): Promise<readonly bigint[]> {
    const rows: bigint[] = [];
    // A text that the database can't hold is the id of no row.
    const wanted = [...new Set(messageIds)].filter((id) => unfitText(id) === undefined);
    for (let from = 0; from < wanted.length; from += idsPerRead) {
      const some = wanted.slice(from, from + idsPerRead);
      const found = await this.#options.database.rows<{ id: string | number }>(
        `SELECT id FROM ${this.#dead} d WHERE group_name = ? AND topic = ? AND message_id IN (${some.map(() => '?').join(', ')})`,
        [group, topic, ...some],
      );
      rows.push(...found.map(({ id }) => BigInt(id)));
    }
    return rows.sort((a, b) => (a < b ? -1 : 1));
  }

  /** Moves one chunk of the rows that a condition chooses, in one transaction. */
  async #redrive(topic: string, group: string, chosen: string, limit: number): Promise<number> {
    const { database, wakers } = this.#options;
    const woken = new Set<number>();
    const moved = await database.transaction(async (sql) => {
      woken.clear();
      const bases = await this.#lanes(sql, topic, group);
      const rows = await sql.rows<{ id: string | number; message_key: string | null }>(
        `SELECT id, message_key FROM ${this.#dead} d WHERE group_name = ? AND topic = ? AND ${chosen} ORDER BY d.id LIMIT ${limit}${forUpdate(database)}`,
        [group, topic],
      );
      for (const { id, message_key: key } of rows) {
        const own = key === null ? this.#turn++ % lanesPerGroup : laneOf(key, lanesPerGroup);
        for (const base of bases) {
          await sql.run(
            `INSERT INTO ${database.table('broker_message')} (lane, key_lane, ${columns}, put_at) SELECT ${base + own}, ${own}, ${columns}, {now} FROM ${this.#dead} WHERE id = ${BigInt(id)}`,
          );
          woken.add(base + own);
        }
      }
      if (rows.length > 0)
        await sql.run(`${database.deleteByPrimaryKey(this.#dead)} WHERE id IN (${rows.map(({ id }) => BigInt(id)).join(', ')})`);
      return rows.length;
    });
    for (const lane of woken) wakers.wake(String(lane));
    return moved;
  }

  /** The first lane of the group, or of each of its members if it is a broadcast. Their topic is locked, so that none of them is removed. */
  async #lanes(sql: Pick<Database, 'rows'>, topic: string, group: string): Promise<readonly number[]> {
    const { database } = this.#options;
    const groups = await sql.rows<{ id: number; name: string }>(
      `SELECT g.id, g.name FROM ${database.table('broker_group')} g JOIN ${database.table('broker_topic')} t ON t.id = g.topic_id WHERE t.name = ? AND (g.alive_until IS NULL OR g.alive_until >= {now})${forUpdate(database)}`,
      [topic],
    );
    const own = groups.filter(({ name }) => name === group);
    const members = own.length > 0 ? own : groups.filter(({ name }) => isMemberOf(name, group));
    if (members.length === 0) throw nobodySubscribes(topic, group);
    return members.map(({ id }) => Number(id) * lanesPerGroup);
  }
}
