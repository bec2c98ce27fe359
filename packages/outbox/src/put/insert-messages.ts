import { type Database, laneOf, type SqlRunner, statementParts } from '@holdfast/core';
import { stripes } from '../table/schema.ts';
import type { NewMessage } from './new-message.ts';

const columns = ['lane', 'topic', 'message_key', 'message_id', 'headers', 'body', 'content_type', 'tenant', 'subject'] as const;
const postgresTypes = {
  lane: 'integer',
  topic: 'varchar',
  message_key: 'varchar',
  message_id: 'varchar',
  headers: 'text',
  body: 'bytea',
  content_type: 'varchar',
  tenant: 'varchar',
  subject: 'varchar',
} as const;

/** SQLite accepts 32,766 parameters per statement. */
const rowsPerStatement = { postgres: 1_000, mysql: 500, sqlite: 100 } as const;

/** Writes messages in their order. Messages with a due time go to `outbox_delayed`. */
export async function insertMessages(database: Database, sql: SqlRunner, messages: readonly NewMessage[]): Promise<void> {
  await lockStripes(database, sql, messages);
  const now = messages.filter((message) => !message.due);
  const later = messages.filter((message) => message.due);
  for (const [table, list] of [
    ['outbox_message', now],
    ['outbox_delayed', later],
  ] as const)
    for (const part of statementParts(database, list, { rows: rowsPerStatement[database.family] }))
      await insertInto(database, sql, table, part);
}

/**
 * For topics in commit order: locks one stripe per key before ids are assigned, to the end of the transaction, so that the ids of a key
 * are in the order of the commits. The stripes of one call are locked in ascending order. Transactions with several calls may deadlock;
 * the database then ends one of them, and the caller tries it again. SQLite has one writer, so its ids are in the order of the commits.
 */
async function lockStripes(database: Database, sql: SqlRunner, messages: readonly NewMessage[]): Promise<void> {
  if (database.family === 'sqlite') return;
  const wanted = new Set<number>();
  for (const { order, topic, message_key } of messages) {
    if (order === 'commit' && message_key !== null) wanted.add(laneOf(`${topic} ${message_key}`, stripes));
  }
  if (wanted.size === 0) return;
  const list = [...wanted].sort((a, b) => a - b).join(', ');
  await sql.rows(`SELECT stripe FROM ${database.table('outbox_stripe')} WHERE stripe IN (${list}) ORDER BY stripe FOR UPDATE`);
}

async function insertInto(
  database: Database,
  sql: SqlRunner,
  table: 'outbox_message' | 'outbox_delayed',
  messages: readonly NewMessage[],
): Promise<void> {
  const delayed = table === 'outbox_delayed';
  const into = `INSERT INTO ${database.table(table)} (${columns.join(', ')}, first_put_at${delayed ? ', due_at' : ''})`;
  if (database.family === 'postgres' && messages.length > 1) {
    const arrays = columns.map((name) => messages.map((message) => message[name]));
    const dues = delayed ? [messages.map((message) => delayOf(message)), messages.map((message) => atOf(message))] : [];
    const types = [...columns.map((name) => postgresTypes[name]), ...(delayed ? ['bigint', 'bigint'] : [])];
    const names = [...columns, ...(delayed ? ['delay_ms', 'at_ms'] : [])];
    await sql.run(
      `${into} SELECT ${columns.map((name) => `u.${name}`).join(', ')}, {now}${delayed ? ', COALESCE(u.at_ms, {now} + u.delay_ms)' : ''} FROM unnest(${types.map((type) => `?::${type}[]`).join(', ')}) WITH ORDINALITY AS u(${names.join(', ')}, ord) ORDER BY u.ord`,
      [...arrays, ...dues],
    );
    return;
  }
  const tuple = `(${columns.map(() => '?').join(', ')}, {now}${delayed ? ', COALESCE(?, {now} + ?)' : ''})`;
  await sql.run(
    `${into} VALUES ${messages.map(() => tuple).join(', ')}`,
    messages.flatMap((row) => [...columns.map((name) => row[name]), ...(delayed ? [atOf(row), delayOf(row)] : [])]),
  );
}

function delayOf({ due }: NewMessage): number | null {
  return due && 'delayMs' in due ? due.delayMs : null;
}

function atOf({ due }: NewMessage): number | null {
  return due && 'atMs' in due ? due.atMs : null;
}
