import {
  type Actor,
  changeAudited,
  type Database,
  type Inspectable,
  InvalidArgumentError,
  idText,
  type ListQuery,
  pageLimit,
  type SqlRunner,
} from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { pausedTypes, setPaused } from '../table/paused-types.ts';
import { type BizCount, countRows } from './count-rows.ts';
import { cancelRow, redriveRow } from './steer.ts';

/** Reads and steers `compensate_biz` for operators' tools. */
export class Inspection implements Inspectable {
  readonly name = 'compensate-biz';
  readonly statuses: readonly string[] = ['WAIT_HANDLE', 'SCHEDULED', 'BLOCKED', 'PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED'];
  readonly redrivable: readonly string[] = ['FAILED', 'CANCELLED'];
  readonly actions: Readonly<Record<'redrive' | 'cancel' | 'pause' | 'resume', (target: string, by: Actor) => Promise<number>>>;
  readonly #database: Database;
  readonly #registry: Registry;

  constructor(registry: Registry) {
    const { database } = registry;
    this.#database = database;
    this.#registry = registry;
    const pause = (type: string, by: Actor, paused: boolean): Promise<number> =>
      this.#audited(paused ? 'pause' : 'resume', type, by, async (sql) => {
        await setPaused(database, sql, type, paused);
        return true;
      });
    const row = async (verb: string, given: string, by: Actor, change: typeof redriveRow): Promise<number> => {
      const id = idText('id', given);
      return this.#audited(verb, id, by, (sql) => change(registry, sql, id));
    };
    this.actions = {
      redrive: (id, by) => row('redrive', id, by, redriveRow),
      cancel: (id, by) => row('cancel', id, by, cancelRow),
      pause: (type, by) => pause(type, by, true),
      resume: (type, by) => pause(type, by, false),
    };
  }

  /**
   * Counts rows by type and status, up to 10,000 of each, so that it costs the same however large the table is. A count that was cut short has
   * `atLeast: 1` beside it.
   */
  stats(): Promise<readonly BizCount[]> {
    return countRows(this.#registry);
  }

  /** Lists rows in id order, by type, status and page. */
  async list(query: ListQuery = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const limit = pageLimit(query);
    const where = [`id > ${idText('after', query.after ?? '0')}`];
    const params: unknown[] = [];
    if (query.status !== undefined) {
      if (!this.statuses.includes(query.status))
        throw new InvalidArgumentError(`status is ${JSON.stringify(query.status)}; give one of ${this.statuses.join(', ')}.`);
      where.push('status = ?');
      params.push(query.status);
    }
    if (query.kind !== undefined) {
      where.push('biz_type = ?');
      params.push(query.kind);
    }
    const t = this.#database.table('compensate_biz');
    return this.#database.rows(
      `SELECT ${this.#database.text('id')} AS id, biz_id, biz_type, status, cnt, starts, lost, priority, tenant, subject, last_failed_reason, dead_reason FROM ${t} WHERE ${where.join(' AND ')} ORDER BY ${t}.id LIMIT ${limit}`,
      params,
    );
  }

  /** Reads one row with its failed attempts. */
  async get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    const [row] = await this.#database.rows<Record<string, unknown>>(
      `SELECT ${this.#database.text('id')} AS id, biz_id, biz_type, context, status, cnt, version, starts, lost, priority, tenant, subject, last_failed_reason, dead_reason FROM ${this.#database.table('compensate_biz')} WHERE id = ${idText('id', id)}`,
    );
    if (!row) return undefined;
    const attempts = await this.#database.rows(
      `SELECT number, outcome, error FROM ${this.#database.table('compensate_biz_attempt')} WHERE task_id = ${BigInt(id)} ORDER BY number`,
    );
    return { ...row, attempts };
  }

  /** Reads the types that operators have paused. */
  paused(): Promise<Set<string>> {
    return pausedTypes(this.#database);
  }

  #audited(verb: string, target: string, by: Actor, change: (sql: SqlRunner) => Promise<boolean>): Promise<number> {
    return changeAudited(this.#database, { action: `compensate-biz:${verb}`, target, by }, async (sql) => Number(await change(sql)));
  }
}
