import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import type { Actor } from './inspectable.ts';

/** @throws InvalidArgumentError if the actor or the reason is missing */
export function requireActor(by: Actor, action: string): void {
  if (!by?.actor || !by.reason)
    throw new InvalidArgumentError(`${action} needs who does it and why: { actor: 'alice', reason: 'their schema is fixed' }.`);
}

/** Records a person's change in the audit table, in the transaction of the change. */
export async function audit(database: Database, sql: SqlRunner, by: Actor, action: string, subject: string): Promise<void> {
  await sql.run(`INSERT INTO ${database.table('holdfast_audit')} (at_ms, actor, action, subject, reason) VALUES ({now}, ?, ?, ?, ?)`, [
    by.actor.slice(0, 191),
    action.slice(0, 100),
    subject.slice(0, 191),
    by.reason.slice(0, 2_000),
  ]);
}
