import { nowSql } from '../../database/clock.ts';
import type { Database } from '../../database/database.ts';

/**
 * The DDL of the claim columns, for `CREATE TABLE` and, on adopted tables, `ALTER TABLE … ADD COLUMN`. Every column has a default or may be
 * NULL, so that rows inserted by code that does not know these columns can be claimed.
 */
export function workColumns(
  database: Database,
): readonly { readonly name: string; readonly type: string; readonly createDefault?: string }[] {
  // PostgreSQL allows no subquery in a default.
  const now = database.family === 'postgres' ? '((extract(epoch FROM clock_timestamp()) * 1000)::bigint)' : nowSql(database.family, 0);
  return [
    { name: 'version', type: 'INTEGER NOT NULL DEFAULT 0' },
    { name: 'starts', type: 'INTEGER NOT NULL DEFAULT 0' },
    { name: 'lost', type: 'INTEGER NOT NULL DEFAULT 0' },
    { name: 'lease_until', type: 'BIGINT NULL' },
    { name: 'owner', type: 'VARCHAR(100) NULL' },
    { name: 'run_at', type: 'BIGINT NULL' },
    { name: 'claim_rank', type: 'BIGINT NOT NULL DEFAULT 0', createDefault: now },
    { name: 'dead_reason', type: 'VARCHAR(20) NULL' },
  ];
}
