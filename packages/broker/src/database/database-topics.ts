import { type Database, forUpdate, insertIgnore, type SqlRunner } from '@holdfast/core';
import { lanesPerGroup } from './schema.ts';

/** The name under which a member of a broadcast is stored: each is a group. */
export function memberName(group: string, member: string): string {
  return `${group}.${member}`;
}

/** Returns whether it is the stored name of a member of the broadcast, and not of a group whose name begins like its. */
export function isMemberOf(name: string, group: string): boolean {
  return name.startsWith(`${group}.`) && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name.slice(group.length + 1));
}

/** A group of one topic. */
export interface TopicGroup {
  readonly id: number;
  readonly topic: string;
  readonly name: string;
}

/**
 * Topics and their groups. A publish takes a shared lock on the topic's row, a registration of a group an exclusive one: so a message is
 * either committed before the registration, which hands waiting messages to a first group, or written for that group.
 */
export class DatabaseTopics {
  readonly #database: Database;
  readonly #topics: string;
  readonly #groups: string;
  readonly #known = new Set<string>();

  constructor(database: Database) {
    this.#database = database;
    this.#topics = database.table('broker_topic');
    this.#groups = database.table('broker_group');
  }

  /** Locks the topics, and returns per topic the lanes of its groups into which a message is written, or the topic's own waiting lane. */
  async lockLanes(sql: SqlRunner, topics: readonly string[]): Promise<Map<string, readonly TopicLane[]>> {
    const { family } = this.#database;
    for (const topic of topics) {
      if (this.#known.has(topic)) continue;
      await sql.run(insertIgnore(this.#database, this.#topics, ['name']), [topic]);
    }
    const marks = topics.map(() => '?').join(', ');
    const lock = { postgres: ' FOR KEY SHARE', mysql: ' LOCK IN SHARE MODE', sqlite: '' }[family];
    const ids = await sql.rows<{ id: number; name: string }>(
      `SELECT id, name FROM ${this.#topics} WHERE name IN (${marks}) ORDER BY name${lock}`,
      [...topics],
    );
    const groups = await sql.rows<{ id: number; topic_id: number; durable: number }>(
      `SELECT id, topic_id, CASE WHEN alive_until IS NULL THEN 1 ELSE 0 END AS durable FROM ${this.#groups} WHERE topic_id IN (${ids.map(({ id }) => Number(id)).join(', ')}) AND (alive_until IS NULL OR alive_until >= {now})`,
    );
    const lanes = new Map<string, readonly TopicLane[]>();
    for (const { id, name } of ids) {
      const own = groups.filter((group) => Number(group.topic_id) === Number(id));
      const list = own.map((group) => ({ base: Number(group.id) * lanesPerGroup, spread: true }));
      // Members of a broadcast don't count as a group: messages wait for the first group all the same.
      lanes.set(name, own.some(({ durable }) => Number(durable) === 1) ? list : [...list, { base: -Number(id), spread: false }]);
    }
    return lanes;
  }

  /** Call it after the transaction that created the topics has committed. */
  committed(topics: readonly string[]): void {
    for (const topic of topics) this.#known.add(topic);
  }

  /** Creates the group unless it exists. The first group of a topic gets the messages that wait there. */
  async register(topic: string, name: string, aliveMs: number | undefined): Promise<TopicGroup> {
    const id = await this.#database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.#database, this.#topics, ['name']), [topic]);
      const lock = forUpdate(this.#database);
      const [row] = await sql.rows<{ id: number }>(`SELECT id FROM ${this.#topics} WHERE name = ?${lock}`, [topic]);
      const topicId = Number(row?.id);
      const found = async (): Promise<number | undefined> => {
        const [group] = await sql.rows<{ id: number }>(`SELECT id FROM ${this.#groups} WHERE topic_id = ? AND name = ?`, [topicId, name]);
        return group && Number(group.id);
      };
      const known = await found();
      if (known !== undefined) return known;
      const first = await sql.rows(`SELECT 1 AS one FROM ${this.#groups} WHERE topic_id = ? AND alive_until IS NULL LIMIT 1`, [topicId]);
      await sql.run(
        `INSERT INTO ${this.#groups} (topic_id, name, alive_until) VALUES (?, ?, ${aliveMs === undefined ? 'NULL' : `{now} + ${Math.round(aliveMs)}`})`,
        [topicId, name],
      );
      const made = await found();
      if (made === undefined) throw new Error(`The group ${name} was not created.`);
      if (first.length === 0 && aliveMs === undefined)
        await sql.run(
          `UPDATE ${this.#database.table('broker_message')} SET lane = ${made * lanesPerGroup} + key_lane WHERE lane = ${-topicId}`,
        );
      return made;
    });
    return { id, topic, name };
  }

  /** Renews a broadcast member's group. Returns whether the group still existed. */
  async renew(group: TopicGroup, aliveMs: number): Promise<boolean> {
    return (await this.#database.run(`UPDATE ${this.#groups} SET alive_until = {now} + ${Math.round(aliveMs)} WHERE id = ${group.id}`)) > 0;
  }

  /** Deletes a group and the messages that are left for it. */
  async remove(id: number): Promise<void> {
    await this.#database.transaction(async (sql) => {
      // An exclusive lock: a publish in progress would write messages for a group that no longer exists.
      const lock = forUpdate(this.#database);
      await sql.rows(`SELECT id FROM ${this.#topics} WHERE id = (SELECT topic_id FROM ${this.#groups} WHERE id = ${id})${lock}`);
      await sql.run(`DELETE FROM ${this.#groups} WHERE id = ${id}`);
      await sql.run(
        `DELETE FROM ${this.#database.table('broker_message')} WHERE lane >= ${id * lanesPerGroup} AND lane < ${(id + 1) * lanesPerGroup}`,
      );
    });
  }

  /** Removes members of broadcasts whose heartbeat has lapsed, and messages for which no group came within `keepMs`. */
  async purge(keepMs: number, signal?: AbortSignal): Promise<void> {
    const lapsed = await this.#database.rows<{ id: number }>(`SELECT id FROM ${this.#groups} WHERE alive_until < {now} - 60000`);
    for (const { id } of lapsed) {
      if (signal?.aborted) return;
      await this.remove(Number(id));
    }
    await this.#database.run(`DELETE FROM ${this.#database.table('broker_message')} WHERE lane < 0 AND put_at < {now} - ${keepMs}`);
  }
}

/** Lanes into which a topic's messages are written. */
export interface TopicLane {
  /** The first lane. */
  readonly base: number;
  /** True if the lane of the message's key is added to `base`. */
  readonly spread: boolean;
}
