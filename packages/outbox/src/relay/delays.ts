import { checkpoint, type Database, forUpdate, type LaneFeed } from '@holdfast/core';
import { messageColumns, type OutboxRow } from '../table/message-columns.ts';

const columns = messageColumns.filter((name) => name !== 'first_put_at').join(', ');

/** Moves due messages of this relay's lanes from `outbox_delayed` to `outbox_message`, by due time and id. */
export class Delays {
  readonly #database: Database;
  readonly #feed: LaneFeed<OutboxRow>;
  readonly #limit = 500;

  constructor(database: Database, feed: LaneFeed<OutboxRow>) {
    this.#database = database;
    this.#feed = feed;
  }

  /** Returns the number of moved messages, and whether more may be due. */
  async promote(): Promise<{ readonly moved: number; readonly more: boolean }> {
    const mine = this.#feed.lanes.filter((lane) => this.#feed.lease(lane));
    if (mine.length === 0) return { moved: 0, more: false };
    const delayed = this.#database.table('outbox_delayed');
    const id = this.#database.text('id');
    const due = await this.#database.rows<{ id: string; lane: number }>(
      `SELECT ${id} AS id, lane FROM ${delayed} t WHERE lane IN (${mine.join(', ')}) AND due_at <= {now} ORDER BY due_at, t.id LIMIT ${this.#limit}`,
    );
    if (due.length === 0) return { moved: 0, more: false };
    await checkpoint('delays:before-move');
    const lanes = [...new Set(due.map(({ lane }) => Number(lane)))].sort((a, b) => a - b);
    const ids = due.map((row) => BigInt(row.id)).join(', ');
    const moved = await this.#database.transaction(async (sql) => {
      for (const lane of lanes) {
        const lease = this.#feed.lease(lane);
        // The lane went to another relay, which moves them.
        if (!lease) return 0;
        await this.#feed.leases.fence(sql, lease);
      }
      // Locks the rows before it copies them: a message that is cancelled at the same time is either missing here, or cancelled too late.
      const lock = forUpdate(this.#database);
      const rows = await sql.rows<{ id: string }>(
        `SELECT ${id} AS id FROM ${delayed} t${this.#database.primaryKeyHint} WHERE id IN (${ids}) ORDER BY t.id${lock}`,
      );
      if (rows.length === 0) return 0;
      const there = rows.map((row) => BigInt(row.id)).join(', ');
      await sql.run(
        `INSERT INTO ${this.#database.table('outbox_message')} (lane, ${columns}, first_put_at) SELECT lane, ${columns}, {now} FROM ${delayed} t WHERE id IN (${there}) ORDER BY due_at, t.id`,
      );
      return sql.run(`${this.#database.deleteByPrimaryKey(delayed)} WHERE id IN (${there})`);
    });
    await checkpoint('delays:after-move');
    for (const lane of lanes) this.#feed.wake(lane);
    return { moved, more: due.length === this.#limit };
  }

  /** Milliseconds until the next delayed message is due; `undefined` if none is delayed. */
  async nextDueMs(): Promise<number | undefined> {
    const mine = this.#feed.lanes;
    if (mine.length === 0) return undefined;
    const [row] = await this.#database.rows<{ wait: string | number | null }>(
      `SELECT MIN(due_at) - {now} AS wait FROM ${this.#database.table('outbox_delayed')} WHERE lane IN (${mine.join(', ')})`,
    );
    return row?.wait === null || row === undefined ? undefined : Math.max(0, Number(row.wait));
  }
}
