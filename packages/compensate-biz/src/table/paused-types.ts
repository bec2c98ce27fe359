import { type Database, keyText, type SqlRunner } from '@holdfast/core';

/** Reads the types that operators have paused. */
export async function pausedTypes(database: Database): Promise<Set<string>> {
  const rows = await database.rows<{ biz_type: string }>(`SELECT biz_type FROM ${database.table('compensate_biz_type')} WHERE paused = 1`);
  return new Set(rows.map((row) => row.biz_type));
}

/** Pauses or resumes a type in the caller's transaction. Workers read it within a second. */
export async function setPaused(database: Database, sql: SqlRunner, type: string, paused: boolean): Promise<void> {
  keyText('type', type, 100);
  const t = database.table('compensate_biz_type');
  await sql.run(`DELETE FROM ${t} WHERE biz_type = ?`, [type]);
  await sql.run(`INSERT INTO ${t} (biz_type, paused) VALUES (?, ${paused ? 1 : 0})`, [type]);
}
