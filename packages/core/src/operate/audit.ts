import type { Database } from '../database/database.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { unfitText } from '../errors/clean-text.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import type { Actor } from './inspectable.ts';

/** @throws InvalidArgumentError if the actor or the reason is missing, or is not a text that a column stores */
export function requireActor(by: Actor, action: string): void {
  if (!by?.actor || !by.reason)
    throw new InvalidArgumentError(`${action} needs who does it and why: { actor: 'alice', reason: 'their schema is fixed' }.`);
  for (const [name, text] of Object.entries({ actor: by.actor, reason: by.reason })) {
    const unfit = typeof text === 'string' ? unfitText(text) : `a ${typeof text}`;
    if (unfit) throw new InvalidArgumentError(`The ${name} of ${action} is or holds ${unfit}; give a text.`);
  }
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
