import { type Database, insertIgnore, type SqlRunner } from '@holdfast/core';
import { lanesPerGroup } from './schema.ts';

/** A group in one topic. */
export interface TopicGroup {
  readonly id: number;
  readonly topic: string;
  readonly name: string;
}

/**
 * Topics and their groups. Who publishes locks the topic's row in share mode, who registers a group locks it alone: so a message is
 * either seen by the registration that takes what waits for a first group, or written for that group.
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

  /** Lanes into which a message of each topic goes, before its key's is added: those of its groups, or that of the topic itself. */
  async lock(sql: SqlRunner, topics: readonly string[]): Promise<Map<string, readonly TopicLane[]>> {
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
      // A broadcast's members are no reason to throw away what the first group is to have.
      lanes.set(name, own.some(({ durable }) => Number(durable) === 1) ? list : [...list, { base: -Number(id), spread: false }]);
    }
    return lanes;
  }

  /** To be called once the transaction in which topics were made has committed. */
  committed(topics: readonly string[]): void {
    for (const topic of topics) this.#known.add(topic);
  }

  /** Makes the group if it is new. The first one of a topic gets what waits there. */
  async register(topic: string, name: string, aliveMs: number | undefined): Promise<TopicGroup> {
    const id = await this.#database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.#database, this.#topics, ['name']), [topic]);
      const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE';
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
      if (made === undefined) throw new Error(`the group ${name} was not made`);
      if (first.length === 0 && aliveMs === undefined)
        await sql.run(
          `UPDATE ${this.#database.table('broker_message')} SET lane = ${made * lanesPerGroup} + key_lane WHERE lane = ${-topicId}`,
        );
      return made;
    });
    return { id, topic, name };
  }

  /** A member of a broadcast lives. Returns whether it was still there. */
  async alive(group: TopicGroup, aliveMs: number): Promise<boolean> {
    return (await this.#database.run(`UPDATE ${this.#groups} SET alive_until = {now} + ${Math.round(aliveMs)} WHERE id = ${group.id}`)) > 0;
  }

  /** A group that ends, with what is left for it. */
  async remove(id: number): Promise<void> {
    await this.#database.transaction(async (sql) => {
      // Alone, or who is publishing right now writes for a group that is gone.
      const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE';
      await sql.rows(`SELECT id FROM ${this.#topics} WHERE id = (SELECT topic_id FROM ${this.#groups} WHERE id = ${id})${lock}`);
      await sql.run(`DELETE FROM ${this.#groups} WHERE id = ${id}`);
      await sql.run(
        `DELETE FROM ${this.#database.table('broker_message')} WHERE lane >= ${id * lanesPerGroup} AND lane < ${(id + 1) * lanesPerGroup}`,
      );
    });
  }

  /** Removes members of broadcasts that gave no sign of life, and what nobody came for within `keepMs`. */
  async purge(keepMs: number): Promise<void> {
    const gone = await this.#database.rows<{ id: number }>(`SELECT id FROM ${this.#groups} WHERE alive_until < {now} - 60000`);
    for (const { id } of gone) await this.remove(Number(id));
    await this.#database.run(`DELETE FROM ${this.#database.table('broker_message')} WHERE lane < 0 AND put_at < {now} - ${keepMs}`);
  }
}

export interface TopicLane {
  readonly base: number;
  /** Whether the key's lane is added. */
  readonly spread: boolean;
}
