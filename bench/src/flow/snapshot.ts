import { DatabaseSync } from 'node:sqlite';
import type { TestDatabase } from '@holdfast/core/testing';

/** Holds a snapshot that has read `table`, as a backup or a report does. Returns a function that releases it. */
export async function holdSnapshot(db: TestDatabase, table: string): Promise<() => Promise<void>> {
  if (db.name === 'sqlite') {
    // Through knex every transaction of SQLite is a writing one.
    const reader = new DatabaseSync(new URL(db.address).pathname);
    reader.exec('BEGIN');
    reader.prepare(`SELECT count(*) FROM ${table}`).all();
    return async () => reader.close();
  }
  const snapshot = await db.connect().transaction({ isolationLevel: 'repeatable read' });
  await snapshot.raw(`SELECT count(*) FROM ${table}`);
  return async () => {
    await snapshot.rollback();
  };
}
