import { type Actor, audit, type Database, InvalidArgumentError, requireActor, wait } from '@holdfast/core';
import { integerId } from '../table/integer-id.ts';

/** Which notifications are sent again, and how fast. */
export interface ReplayOptions {
  /** Id of the endpoint. */
  readonly endpoint: string;
  /** Only notifications that were triggered since. */
  readonly since: Date;
  /** Which ones. Default: those that were given up, `['EXHAUSTED', 'GONE']`. */
  readonly states?: readonly ('DELIVERED' | 'EXHAUSTED' | 'GONE' | 'CANCELLED')[];
  /** Per second, so that a receiver that came back is not run over. Default 10. */
  readonly rate?: number;
}

const again = "state = 'PENDING', ended_at = NULL, reason = NULL, next_trigger = 'manual'";

/** Makes one notification due now, whatever its state. Its attempts are counted on; one beyond the schedule is its last. */
export async function resend(database: Database, id: string, by: Actor): Promise<boolean> {
  requireActor(by, 'resend');
  const table = database.table('notifier_notification');
  return database.transaction(async (sql) => {
    const changed = await sql.run(`UPDATE ${table} SET ${again}, due_at = {now} WHERE id = ${integerId(id)}`);
    if (changed === 0) return false;
    await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) SELECT endpoint_id FROM ${table} WHERE id = ${id}`);
    await audit(database, sql, by, 'notifier:resend', `notification ${id}`);
    return true;
  });
}

/** Sends notifications of an endpoint again, oldest first, spread over time. Returns how many. */
export async function replay(database: Database, options: ReplayOptions, by: Actor): Promise<number> {
  requireActor(by, 'replay');
  const endpoint = integerId(options.endpoint);
  const { rate = 10, states = ['EXHAUSTED', 'GONE'] } = options;
  if (!(rate > 0 && rate <= 10_000)) throw new InvalidArgumentError(`rate is ${rate}; give notifications per second, up to 10,000.`);
  if (!(options.since instanceof Date) || Number.isNaN(options.since.getTime()))
    throw new InvalidArgumentError('since is no date; pass a Date from which on notifications are sent again.');
  for (const state of states)
    if (!['DELIVERED', 'EXHAUSTED', 'GONE', 'CANCELLED'].includes(state))
      throw new InvalidArgumentError(`states holds ${JSON.stringify(state)}; give DELIVERED, EXHAUSTED, GONE or CANCELLED.`);
  const table = database.table('notifier_notification');
  const of = `endpoint_id = ${endpoint} AND state IN (${states.map((state) => `'${state}'`).join(', ')}) AND created_at >= ${options.since.getTime()}`;
  let total = 0;
  for (let after = '0'; ; ) {
    const rows = await database.rows<{ id: string }>(
      `SELECT ${database.text('id')} AS id FROM ${table} t WHERE ${of} AND t.id > ${after} ORDER BY t.id LIMIT 500`,
    );
    const last = rows.at(-1);
    if (!last) break;
    after = last.id;
    total += await database.transaction(async (sql) => {
      let changed = 0;
      for (const [i, { id }] of rows.entries())
        changed += await sql.run(
          `UPDATE ${table} SET ${again}, due_at = {now} + ${Math.trunc(((total + i) * 1_000) / rate)} WHERE id = ${id} AND state <> 'PENDING'`,
        );
      await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) VALUES (${endpoint})`);
      await audit(database, sql, by, 'notifier:replay', `endpoint ${endpoint}, ${changed} notifications`);
      return changed;
    });
    await wait(0);
  }
  return total;
}

/** How long after its last attempt a notification is looked at, and up to how many attempts. */
export interface CompensateOptions {
  readonly idleMs: number;
  readonly maxAttempts: number;
}

/**
 * The sweep of last resort: unacknowledged, last notified over half an hour ago, fewer attempts than the schedule has, and overdue
 * by its own schedule. Nothing should ever be: it is for rows that were changed by hand, or signs that were lost in a restore. Makes their
 * endpoints look again; the attempts say `compensate`. Returns how many there were.
 */
export async function compensate(database: Database, { idleMs, maxAttempts }: CompensateOptions): Promise<number> {
  const n = database.table('notifier_notification');
  const e = database.table('notifier_endpoint');
  const overdue = (name: string): string =>
    `${name}.state = 'PENDING' AND ${name}.due_at <= {now} AND ${name}.notify_times < ${maxAttempts} AND COALESCE(${name}.last_notified_at, ${name}.created_at) < {now} - ${idleMs}`;
  // By endpoint, on the index of what is due. Those that are being served, or held back by their breaker, or paused, are no loss.
  const endpoints = await database.rows<{ id: string }>(
    `SELECT ${database.text('e.id')} AS id FROM ${e} e WHERE e.status IN ('IDLE', 'WAITING') AND e.hold_until <= {now} AND EXISTS (SELECT 1 FROM ${n} n WHERE n.endpoint_id = e.id AND ${overdue('n')})`,
  );
  let total = 0;
  for (const { id } of endpoints) {
    total += await database.transaction(async (sql) => {
      const changed = await sql.run(`UPDATE ${n} SET next_trigger = 'compensate' WHERE endpoint_id = ${id} AND ${overdue(n)}`);
      await sql.run(`INSERT INTO ${database.table('notifier_wake')} (endpoint_id) VALUES (${id})`);
      return changed;
    });
  }
  return total;
}
