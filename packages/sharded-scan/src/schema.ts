import { type Database, keepTrailingSpaces, type Schema, SchemaWriter } from '@holdfast/core';

/** The tables of this package. They belong in the service's own database, not in the shards. */
export const scanSchema: Schema = {
  name: 'sharded-scan',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) => keepTrailingSpaces(database, sql, ['scan_pass', 'scan_unit', 'scan_failure']),
    },
  ],
};

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  // One row per scan and scope (the set of units that a run may take). Runs of different scopes have separate passes.
  ddl.table(
    'scan_pass',
    'scan VARCHAR(100) NOT NULL, scope VARCHAR(100) NOT NULL, pass BIGINT NOT NULL DEFAULT 0, started_at BIGINT NULL, ended_at BIGINT NULL, PRIMARY KEY (scan, scope)',
  );
  ddl.table(
    'scan_unit',
    `scan VARCHAR(100) NOT NULL, scope VARCHAR(100) NOT NULL, unit VARCHAR(100) NOT NULL, pass BIGINT NOT NULL, state VARCHAR(10) NOT NULL, epoch BIGINT NOT NULL DEFAULT 0, position ${ddl.text} NULL, bound ${ddl.text} NULL, expected BIGINT NULL, rate BIGINT NULL, examined BIGINT NOT NULL DEFAULT 0, matched BIGINT NOT NULL DEFAULT 0, handled BIGINT NOT NULL DEFAULT 0, failed BIGINT NOT NULL DEFAULT 0, error ${ddl.text} NULL, started_at BIGINT NULL, updated_at BIGINT NULL, PRIMARY KEY (scan, scope, unit)`,
    { postgres: 'WITH (fillfactor = 50)' },
  );
  ddl.table(
    'scan_failure',
    `id ${ddl.id}, scan VARCHAR(100) NOT NULL, scope VARCHAR(100) NOT NULL, unit VARCHAR(100) NOT NULL, pass BIGINT NOT NULL, row_key ${ddl.text} NOT NULL, error ${ddl.text} NOT NULL, failed_at BIGINT NOT NULL`,
  );
  ddl.index('scan_failure_scan', 'scan_failure', 'scan, id');
  return ddl.statements;
}
