import type { Database } from '../database/database.ts';
import { keepTrailingSpaces } from './keep-trailing-spaces.ts';
import type { Schema } from './schema.ts';
import { SchemaWriter } from './schema-writer.ts';

/** The tables of this package: leases, members, slots, gates, breakers, rates, idempotency keys, audit. */
export const coreSchema: Schema = {
  name: 'core',
  migrations: [
    { name: '0001_create', statements: create },
    { name: '0002_rate', statements: createRate },
    {
      name: '0003_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(database, sql, [
          'holdfast_lease',
          'holdfast_member',
          'holdfast_slot',
          'holdfast_gate',
          'holdfast_breaker',
          'holdfast_rate',
          'holdfast_once',
          'holdfast_audit',
        ]),
    },
    { name: '0004_retention', statements: retention },
  ],
};

/** The index by which idempotency keys are purged. */
function retention(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.index('holdfast_once_expiry', 'holdfast_once', 'expires_at', { concurrently: true });
  return ddl.statements;
}

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.table(
    'holdfast_lease',
    'scope VARCHAR(100) NOT NULL, name VARCHAR(191) NOT NULL, owner VARCHAR(100) NULL, epoch BIGINT NOT NULL DEFAULT 0, lease_until BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (scope, name)',
  );
  ddl.table(
    'holdfast_member',
    'scope VARCHAR(100) NOT NULL, member VARCHAR(100) NOT NULL, alive_until BIGINT NOT NULL, PRIMARY KEY (scope, member)',
  );
  ddl.table('holdfast_slot', 'scope VARCHAR(100) NOT NULL, slot INTEGER NOT NULL, holder VARCHAR(100) NULL, PRIMARY KEY (scope, slot)');
  ddl.table(
    'holdfast_gate',
    'scope VARCHAR(191) NOT NULL, gate_key VARCHAR(191) NOT NULL, head BIGINT NULL, PRIMARY KEY (scope, gate_key)',
  );
  ddl.table(
    'holdfast_breaker',
    "scope VARCHAR(100) NOT NULL, name VARCHAR(191) NOT NULL, state VARCHAR(10) NOT NULL DEFAULT 'closed', failures INTEGER NOT NULL DEFAULT 0, opened INTEGER NOT NULL DEFAULT 0, until_ms BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (scope, name)",
  );
  ddl.table(
    'holdfast_once',
    'scope VARCHAR(191) NOT NULL, once_key VARCHAR(191) NOT NULL, ref VARCHAR(191) NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (scope, once_key)',
  );
  ddl.table(
    'holdfast_audit',
    `id ${ddl.id}, at_ms BIGINT NOT NULL, actor VARCHAR(191) NOT NULL, action VARCHAR(100) NOT NULL, subject VARCHAR(191) NOT NULL, reason VARCHAR(2000) NOT NULL`,
  );
  return ddl.statements;
}

/** `earlier`: the starts before the last ones that still count, as JSON: at most 64 pairs of a time and a number. */
function createRate(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.table(
    'holdfast_rate',
    "scope VARCHAR(100) NOT NULL, name VARCHAR(191) NOT NULL, earlier VARCHAR(4000) NOT NULL DEFAULT '', last_at BIGINT NOT NULL DEFAULT 0, last_count INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (scope, name)",
  );
  return ddl.statements;
}
