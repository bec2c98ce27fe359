import {
  columnBytes,
  concat,
  type Database,
  deleteLaneRows,
  insertNew,
  laneRowsWhere,
  type SqlRunner,
  type StoredError,
} from '@holdfast/core';
import { largeColumns, messageColumns, type OutboxRow, publishColumns } from '../table/message-columns.ts';

/** A held line, as it is stored. */
export interface StoredHold {
  readonly lane: number;
  readonly name: string;
  /** Ms from now until the next try; `undefined` for a line that waits for an operator. */
  readonly waitMs: number | undefined;
  readonly attempts: number;
}

const columns = messageColumns.join(', ');

/** The statements on `outbox_held`, `outbox_parked` and `outbox_dead`. The lane's lease fences the transaction of those that take `sql`. */
export class HoldTable {
  readonly #database: Database;
  readonly #message: string;
  readonly #parked: string;
  readonly #held: string;
  readonly #dead: string;

  constructor(database: Database) {
    this.#database = database;
    this.#message = database.table('outbox_message');
    this.#parked = database.table('outbox_parked');
    this.#held = database.table('outbox_held');
    this.#dead = database.table('outbox_dead');
  }

  /** Held lines of a lane. */
  async load(lane: number): Promise<StoredHold[]> {
    const rows = await this.#database.rows<{ hold: string; wait_ms: string | number | null; attempts: number }>(
      `SELECT hold, until_at - {now} AS wait_ms, attempts FROM ${this.#held} WHERE lane = ?`,
      [lane],
    );
    return rows.map((row) => ({
      lane,
      name: row.hold,
      waitMs: row.wait_ms === null ? undefined : Math.max(0, Number(row.wait_ms)),
      attempts: Number(row.attempts),
    }));
  }

  /** Stores that a line is held. */
  async hold(sql: SqlRunner, lane: number, name: string, waitMs: number | undefined, attempts: number, error: StoredError): Promise<void> {
    const text = JSON.stringify(error);
    const until = waitMs === undefined ? 'NULL' : `{now} + ${Math.round(waitMs)}`;
    const changed = await sql.run(`UPDATE ${this.#held} SET until_at = ${until}, attempts = ?, error = ? WHERE lane = ? AND hold = ?`, [
      attempts,
      text,
      lane,
      name,
    ]);
    if (changed === 0 || this.#database.family === 'mysql') {
      // MySQL does not count a row that it found with these values already.
      const insert = insertNew(this.#database, `INTO ${this.#held} (lane, hold, until_at, attempts, error) VALUES (?, ?, ${until}, ?, ?)`);
      await sql.run(insert, [lane, name, attempts, text]);
    }
  }

  /** Moves rows to the parked lists of their lines. They keep their ids, and so their order. */
  async park(sql: SqlRunner, rows: readonly OutboxRow[]): Promise<void> {
    const { sql: where, params } = laneRowsWhere(this.#database, rows);
    const name = `CASE WHEN message_key IS NULL THEN ${concat(this.#database, "'#'", this.#database.text('t.id'))} ELSE ${concat(this.#database, 'topic', "' '", 'message_key')} END`;
    await sql.run(
      `INSERT INTO ${this.#parked} (id, lane, hold, ${columns}) SELECT t.id, t.lane, ${name}, ${columns} FROM ${this.#message} t WHERE ${where}`,
      params,
    );
    await deleteLaneRows(sql, this.#database, 'outbox_message', rows);
  }

  /** The first parked rows of a line: at most `limit`, and of about `bytes` at most, but at least one. */
  async parked(lane: number, name: string, limit: number, bytes: number): Promise<OutboxRow[]> {
    const of = `FROM ${this.#parked} t WHERE lane = ? AND hold = ?`;
    const id = this.#database.text('id');
    let last = '';
    if (limit > 1) {
      const rows = await this.#database.rows<{ id: string; bytes: string | number }>(
        `SELECT ${id} AS id, ${columnBytes(this.#database, largeColumns)} AS bytes ${of} ORDER BY t.id LIMIT ${limit}`,
        [lane, name],
      );
      let total = 0;
      const over = rows.findIndex((row, i) => {
        total += Number(row.bytes);
        return i > 0 && total > bytes;
      });
      const until = rows.at(over < 0 ? -1 : over - 1);
      if (!until) return [];
      last = ` AND t.id <= ${BigInt(until.id)}`;
    }
    return this.#database.rows<OutboxRow>(
      `SELECT ${id} AS id, lane, ${publishColumns.join(', ')} ${of}${last} ORDER BY t.id LIMIT ${limit}`,
      [lane, name],
    );
  }

  /** Deletes published rows from the parked list of their line. */
  async unpark(lane: number, name: string, rows: readonly OutboxRow[]): Promise<void> {
    await this.#database.run(
      `${this.#database.deleteByPrimaryKey(this.#parked)} WHERE lane = ? AND hold = ? AND id IN (${rows.map(({ id }) => BigInt(id)).join(', ')})`,
      [lane, name],
    );
  }

  /** Ends a hold if its parked list is empty. Returns whether it was. */
  async release(sql: SqlRunner, lane: number, name: string): Promise<boolean> {
    const left = await sql.rows(`SELECT 1 AS one FROM ${this.#parked} WHERE lane = ? AND hold = ? LIMIT 1`, [lane, name]);
    if (left.length > 0) return false;
    await sql.run(`DELETE FROM ${this.#held} WHERE lane = ? AND hold = ?`, [lane, name]);
    return true;
  }

  /** Moves a row to the dead letters, from `outbox_message` or from the parked list `parkedUnder`. */
  async bury(sql: SqlRunner, row: OutboxRow, parkedUnder: string | undefined, reason: string, error: StoredError): Promise<void> {
    const from = parkedUnder === undefined ? this.#message : this.#parked;
    const of = parkedUnder === undefined ? `lane = ? AND id = ${BigInt(row.id)}` : `lane = ? AND hold = ? AND id = ${BigInt(row.id)}`;
    const params = parkedUnder === undefined ? [row.lane] : [row.lane, parkedUnder];
    await sql.run(
      `INSERT INTO ${this.#dead} (id, lane, ${columns}, reason, error, dead_at) SELECT id, lane, ${columns}, ?, ?, {now} FROM ${from} WHERE ${of}`,
      [reason, JSON.stringify(error), ...params],
    );
    await sql.run(`DELETE FROM ${from} WHERE ${of}`, params);
  }
}
