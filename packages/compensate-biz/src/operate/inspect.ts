import {
  type Actor,
  type BulkAction,
  changeAudited,
  type Database,
  type Inspectable,
  idText,
  type ListQuery,
  type SqlRunner,
} from '@holdfast/core';
import type { Registry } from '../registry.ts';
import { parentType } from '../table/parent-type.ts';
import { pausedTypes, setPaused } from '../table/paused-types.ts';
import { taskStatuses } from '../table/statuses.ts';
import { cancelRow } from './cancel.ts';
import { type BizCount, countRows } from './count-rows.ts';
import { redriveMatching } from './redrive.ts';
import { redriveRow } from './steer.ts';
import { type TaskRecord, taskColumns } from './task.ts';
import { pageCondition } from './task-query.ts';

/** Reads and steers `compensate_biz` for operators' tools. */
export class Inspection implements Inspectable {
  readonly name = 'compensate-biz';
  readonly statuses: readonly string[] = taskStatuses;
  readonly redrivable: readonly string[] = ['FAILED', 'CANCELLED'];
  readonly actions: Readonly<Record<'redrive' | 'cancel' | 'pause' | 'resume', (target: string, by: Actor) => Promise<number>>>;
  readonly bulk: Readonly<Record<'redrive', BulkAction>>;
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
    this.actions = {
      redrive: async (given, by) => {
        const id = idText('id', given);
        return this.#audited('redrive', id, by, (sql) => redriveRow(registry, sql, id));
      },
      cancel: (id, by) => this.#cancel(idText('id', id), by),
      pause: (type, by) => pause(type, by, true),
      resume: (type, by) => pause(type, by, false),
    };
    this.bulk = { redrive: (filter, options) => redriveMatching(registry, filter, options, this.redrivable) };
  }

  /**
   * Counts rows by type and status, up to 10,000 of each, so that it costs the same however large the table is. A count that was cut short has
   * `atLeast: 1` beside it.
   */
  stats(): Promise<readonly BizCount[]> {
    return countRows(this.#registry);
  }

  /**
   * Lists rows in id order, by type (`kind`), `bizId` (`key`), subject, tenant, status and page. A list by key, subject or tenant reads the
   * index of that column; any other list walks the table from `after` on until the page is full.
   */
  async list(query: ListQuery = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const rows = await this.records(query);
    return rows.map(({ run_at: _, updated_ms: __, ...row }) => row);
  }

  /** The rows of a list, with their times. */
  async records(query: ListQuery): Promise<readonly TaskRecord[]> {
    const { sql, params, limit } = pageCondition(query);
    const t = this.#database.table('compensate_biz');
    return this.#database.rows(`SELECT ${taskColumns(this.#database)} FROM ${t} WHERE ${sql} ORDER BY ${t}.id LIMIT ${limit}`, params);
  }

  /** Reads one row with its failed attempts. */
  async get(id: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    const found = await this.record(id);
    if (!found) return undefined;
    const { run_at: _, updated_ms: __, ...row } = found.row;
    return { ...row, attempts: found.attempts.map(({ number, outcome, error }) => ({ number, outcome, error })) };
  }

  /** Reads one row and its failed attempts, with their times. */
  async record(id: string): Promise<{ readonly row: TaskRecord; readonly attempts: readonly TaskRecord[] } | undefined> {
    const [row] = await this.#database.rows<TaskRecord>(
      `SELECT ${taskColumns(this.#database)}, context, version FROM ${this.#database.table('compensate_biz')} WHERE id = ${idText('id', id)}`,
    );
    if (!row) return undefined;
    const attempts = await this.#database.rows<TaskRecord>(
      `SELECT number, outcome, error, ended_at FROM ${this.#database.table('compensate_biz_attempt')} WHERE task_id = ${BigInt(id)} ORDER BY number`,
    );
    return { row, attempts };
  }

  /** Returns whether `actions.redrive` takes a row as it is now: one that is FAILED or CANCELLED, and not a fan-out. */
  async mayRedrive(id: string): Promise<boolean> {
    const found = await this.record(id);
    return found !== undefined && this.redrivable.includes(String(found.row.status)) && found.row.biz_type !== parentType;
  }

  /** Reads the types that operators have paused. */
  paused(): Promise<Set<string>> {
    return pausedTypes(this.#database);
  }

  async #cancel(id: string, by: Actor): Promise<number> {
    let cancelled: readonly string[] = [];
    const changed = await this.#audited('cancel', id, by, async (sql) => {
      cancelled = await cancelRow(this.#registry, sql, id);
      return cancelled.length > 0;
    });
    this.#registry.cancelled(cancelled);
    return changed;
  }

  #audited(verb: string, target: string, by: Actor, change: (sql: SqlRunner) => Promise<boolean>): Promise<number> {
    return changeAudited(this.#database, { action: `compensate-biz:${verb}`, target, by }, async (sql) => Number(await change(sql)));
  }
}
