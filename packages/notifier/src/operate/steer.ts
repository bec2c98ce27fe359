import { type Actor, audit, type Database, forUpdate, InvalidArgumentError, idText, requireActor, shownValue, wait } from '@holdfast/core';
import { checkedStates, type EndedState } from './ended-states.ts';

/** The notifications that `replay` sends again, and its rate. Superseded ones are left out. */
export interface ReplayOptions {
  /** Id of the endpoint. */
  readonly endpoint: string;
  /** Only notifications that were triggered at or after this time. */
  readonly since: Date;
  /** Only notifications in these states. Default `['EXHAUSTED', 'GONE']`: those that ended without an acknowledgement. */
  readonly states?: readonly EndedState[];
  /** Notifications per second, so that a receiver that has just recovered is not overloaded. Default 10, at least 0.000001, at most 10,000. */
  readonly rate?: number;
}

/** One notification in eleven days: later due times would leave the range of a date. */
const leastRate = 0.000_001;

/** The assignments that make an ended notification pending again. Its attempts stay. */
export const setPending: string = "state = 'PENDING', ended_at = NULL, reason = NULL, next_trigger = 'manual', resends = resends + 1";

/**
 * The condition that a notification `name` is not superseded: it would be cancelled again before its attempt. Index: its event. For a SELECT
 * alone: MySQL can't read the table that a statement changes.
 */
export function notSuperseded(database: Database, name: string): string {
  const later = `SELECT 1 FROM ${database.table('notifier_notification')} later WHERE later.tenant = ${name}.tenant AND later.subject_id = ${name}.subject_id AND later.sequence > ${name}.sequence AND (${name}.target = '' OR later.target IN (${name}.target, ''))`;
  return `NOT (${name}.supersede = 1 AND EXISTS (${later}))`;
}

/**
 * Makes one notification due now, whatever its state; if an attempt is under way, another one follows. Its attempts continue to count: beyond
 * the schedule, it gets this one attempt. Returns `false` if it does not exist, or is superseded.
 */
export async function resend(database: Database, id: string, by: Actor): Promise<boolean> {
  requireActor(by, 'resend');
  const table = database.table('notifier_notification');
  return database.transaction(async (sql) => {
    const found = await sql.rows(
      `SELECT 1 AS one FROM ${table} t WHERE t.id = ${idText('id', id)} AND ${notSuperseded(database, 't')}${forUpdate(database)}`,
    );
    if (found.length === 0) return false;
    await sql.run(`UPDATE ${table} SET ${setPending}, due_at = {now} WHERE id = ${id}`);
    await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) SELECT endpoint_id FROM ${table} WHERE id = ${id}`);
    await audit(database, sql, by, 'notifier:resend', `notification ${id}`);
    return true;
  });
}

/** Ends a notification that is pending. An attempt that is under way ends, and changes it no more. Returns `false` if it was not pending. */
export async function cancel(database: Database, id: string, by: Actor): Promise<boolean> {
  requireActor(by, 'cancel');
  const table = database.table('notifier_notification');
  return database.transaction(async (sql) => {
    const changed = await sql.run(
      `UPDATE ${table} SET state = 'CANCELLED', reason = 'cancelled', due_at = NULL, ended_at = {now} WHERE id = ${idText('id', id)} AND state = 'PENDING'`,
    );
    if (changed > 0) await audit(database, sql, by, 'notifier:cancel', `notification ${id}`);
    return changed > 0;
  });
}

/** Sends notifications of an endpoint again, oldest first, spread over time. Returns their number. */
export async function replay(database: Database, options: ReplayOptions, by: Actor): Promise<number> {
  requireActor(by, 'replay');
  const endpoint = idText('endpoint', options?.endpoint);
  const { rate = 10 } = options;
  if (typeof rate !== 'number' || !(rate >= leastRate && rate <= 10_000))
    throw new InvalidArgumentError(
      `rate is ${shownValue(rate)}; give a number of notifications per second above 0 (${leastRate} at least), up to 10,000.`,
    );
  if (!(options.since instanceof Date) || Number.isNaN(options.since.getTime()))
    throw new InvalidArgumentError('since is not a valid Date; pass the time from which notifications are sent again.');
  const states = checkedStates(options.states);
  if (states.length === 0) return 0;
  const table = database.table('notifier_notification');
  const of = `endpoint_id = ${endpoint} AND state IN (${states.map((state) => `'${state}'`).join(', ')}) AND created_at >= ${options.since.getTime()}`;
  let total = 0;
  for (let after = '0'; ; ) {
    const rows = await database.rows<{ id: string }>(
      `SELECT ${database.text('id')} AS id FROM ${table} t WHERE ${of} AND t.id > ${after} AND ${notSuperseded(database, 't')} ORDER BY t.id LIMIT 500`,
    );
    const last = rows.at(-1);
    if (!last) break;
    after = last.id;
    total += await database.transaction(async (sql) => {
      let changed = 0;
      for (const [i, { id }] of rows.entries())
        changed += await sql.run(
          `UPDATE ${table} SET ${setPending}, due_at = {now} + ${Math.trunc(((total + i) * 1_000) / rate)} WHERE id = ${id} AND state <> 'PENDING'`,
        );
      await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) VALUES (${endpoint})`);
      await audit(database, sql, by, 'notifier:replay', `endpoint ${endpoint}, ${changed} notifications`);
      return changed;
    });
    await wait(0);
  }
  return total;
}

export interface CompensateOptions {
  /** Time since the last attempt, in ms. */
  readonly idleMs: number;
  /** Only notifications with fewer attempts. */
  readonly maxAttempts: number;
  /** Once it has aborted, no further endpoint is looked at. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The sweep of last resort. Finds notifications that are unacknowledged, overdue by their own schedule, and were last attempted longer than
 * `idleMs` ago, and inserts wake rows for their endpoints. There should never be any, unless rows were changed by hand, or wake rows were
 * lost in a restore. Their attempts are marked `compensate`. Returns the number of notifications found.
 */
export async function compensate(database: Database, { idleMs, maxAttempts, signal }: CompensateOptions): Promise<number> {
  const n = database.table('notifier_notification');
  const e = database.table('notifier_endpoint');
  const overdue = (name: string): string =>
    `${name}.state = 'PENDING' AND ${name}.due_at <= {now} AND ${name}.notify_times < ${maxAttempts} AND COALESCE(${name}.last_notified_at, ${name}.created_at) < {now} - ${idleMs}`;
  // By endpoint, on the index of due notifications. Endpoints that are being served, held back by their breaker or paused need no sweep.
  const endpoints = await database.rows<{ id: string }>(
    `SELECT ${database.text('e.id')} AS id FROM ${e} e WHERE e.status IN ('IDLE', 'WAITING') AND e.hold_until <= {now} AND EXISTS (SELECT 1 FROM ${n} n WHERE n.endpoint_id = e.id AND ${overdue('n')})`,
  );
  let total = 0;
  for (const { id } of endpoints) {
    if (signal?.aborted) break;
    total += await database.transaction(async (sql) => {
      const changed = await sql.run(`UPDATE ${n} SET next_trigger = 'compensate' WHERE endpoint_id = ${id} AND ${overdue(n)}`);
      await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) VALUES (${id})`);
      return changed;
    });
  }
  return total;
}
