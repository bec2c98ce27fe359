import { type Database, deleteOlder, uuidv7 } from '@holdfast/core';
import type { JobEnd } from '../admin/protocol.ts';
import type { EndStore, StoredEnd } from './end-store.ts';

/** Ends of another executor of the same name are reported once they are this old: it may have died. */
const othersAfterMs = 60_000;

/** Ends in the table `xxl_job_end`. Executors with one `appName` share them, so that the ends of one that died are reported by another. */
export class EndTable implements EndStore {
  readonly #database: Database;
  readonly #appName: string;
  readonly #executor = uuidv7();
  readonly #table: string;

  constructor(database: Database, appName: string) {
    this.#database = database;
    this.#appName = appName;
    this.#table = database.table('xxl_job_end');
  }

  async add({ logId, logDateTime, code, msg }: JobEnd): Promise<void> {
    await this.#database.run(
      `INSERT INTO ${this.#table} (app_name, executor, log_id, log_time, code, msg, ended_at, due_at) VALUES (?, ?, ${BigInt(logId)}, ?, ?, ?, {now}, {now})`,
      [this.#appName, this.#executor, logDateTime, code, msg],
    );
  }

  async due(most: number): Promise<readonly StoredEnd[]> {
    const rows = await this.#database.rows<Record<'id' | 'log_id' | 'log_time' | 'msg', string> & { code: number; refusals: number }>(
      `SELECT ${['id', 'log_id', 'log_time'].map((name) => `${this.#database.text(name)} AS ${name}`).join(', ')}, code, msg, refusals FROM ${this.#table} t WHERE app_name = ? AND due_at <= {now} AND (executor = ? OR ended_at < {now} - ${othersAfterMs}) ORDER BY refusals, due_at LIMIT ${most}`,
      [this.#appName, this.#executor],
    );
    return rows.map(({ id, log_id, log_time, code, msg, refusals }) => ({
      id,
      end: { logId: log_id, logDateTime: Number(log_time), code: Number(code), msg },
      refusals: Number(refusals),
    }));
  }

  async remove(ids: readonly string[]): Promise<void> {
    await this.#database.run(`${this.#database.deleteByPrimaryKey(this.#table)} WHERE id IN (${ids.map((id) => BigInt(id)).join(', ')})`);
  }

  async refused(id: string, ms: number): Promise<void> {
    await this.#database.run(
      `UPDATE ${this.#table}${this.#database.primaryKeyHint} SET refusals = refusals + 1, due_at = {now} + ${Math.round(ms)} WHERE id = ${BigInt(id)}`,
    );
  }

  purge(days: number, signal?: AbortSignal): Promise<number> {
    return deleteOlder(this.#database, this.#table, 'ended_at', `{now} - ${days * 86_400_000}`, signal);
  }
}
