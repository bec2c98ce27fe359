import { type Database, insertNew, keepTrailingSpaces, type Schema, SchemaWriter, type SqlRunner, tableColumns } from '@holdfast/core';

/** The tables of this package, for `migrate`. */
export const codeRunnerSchema: Schema = {
  name: 'code_runner',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(database, sql, ['runner_task', 'runner_file', 'runner_object', 'runner_run', 'runner_event']),
    },
    { name: '0003_ended', statements: indexEnded },
    { name: '0004_blobs', statements: addBlobs },
    { name: '0005_usage', statements: addUsage },
  ],
};

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  const { id, text, bytes } = ddl;
  // Range conditions over folded paths compare code points, whatever the database's locale.
  const folded = database.family === 'postgres' ? 'VARCHAR(1024) COLLATE "C"' : 'VARCHAR(1024)';
  ddl.table(
    'runner_task',
    [
      `id ${id}`,
      'created_at BIGINT NOT NULL',
      'updated_at BIGINT NOT NULL',
      'removed_at BIGINT NULL',
      'bytes BIGINT NOT NULL DEFAULT 0',
      'draft_run_id BIGINT NULL',
      'files INTEGER NOT NULL DEFAULT 0',
      'version INTEGER NOT NULL DEFAULT 0',
      'owner VARCHAR(191) NOT NULL',
      'name VARCHAR(191) NOT NULL',
      'language VARCHAR(50) NOT NULL',
      'main_path VARCHAR(1024) NULL',
      `data_sets ${text} NOT NULL`,
    ].join(', '),
  );
  ddl.index('runner_task_owner', 'runner_task', 'owner, id');
  ddl.table(
    'runner_file',
    [
      `id ${id}`,
      'task_id BIGINT NOT NULL',
      'size BIGINT NOT NULL',
      'updated_at BIGINT NOT NULL',
      'version INTEGER NOT NULL DEFAULT 1',
      // Makes paths unique under case folding. A digest, since a path is too long for an index of MariaDB.
      'folded_hash CHAR(64) NOT NULL',
      'blob_hash CHAR(64) NOT NULL',
      `folded ${folded} NOT NULL`,
      'path VARCHAR(1024) NOT NULL',
    ].join(', '),
  );
  ddl.index('runner_file_path', 'runner_file', 'task_id, folded_hash', { unique: true });
  // Objects of databaseFiles(), in parts of 1 MiB.
  ddl.table(
    'runner_object',
    ['name VARCHAR(300) NOT NULL', 'part INTEGER NOT NULL', `content ${bytes} NOT NULL`, 'PRIMARY KEY (name, part)'].join(', '),
  );
  ddl.table(
    'runner_run',
    [
      `id ${id}`,
      'task_id BIGINT NOT NULL',
      'created_at BIGINT NOT NULL',
      'submitted_at BIGINT NULL',
      'queue_deadline BIGINT NULL',
      'claimed_at BIGINT NULL',
      'started_at BIGINT NULL',
      'stop_at BIGINT NULL',
      'ended_at BIGINT NULL',
      'log_bytes BIGINT NOT NULL DEFAULT 0',
      'memory_bytes BIGINT NOT NULL DEFAULT 0',
      'last_seq INTEGER NOT NULL DEFAULT 0',
      'state INTEGER NOT NULL DEFAULT 0',
      'fence INTEGER NOT NULL DEFAULT 0',
      'attempt INTEGER NOT NULL DEFAULT 1',
      'priority INTEGER NOT NULL DEFAULT 0',
      'exit_code INTEGER NULL',
      "phase VARCHAR(10) NOT NULL DEFAULT 'draft'",
      "desired VARCHAR(10) NOT NULL DEFAULT 'running'",
      'log_packed INTEGER NOT NULL DEFAULT 0',
      'exit_signal VARCHAR(20) NULL',
      'reason VARCHAR(20) NULL',
      'job_uid CHAR(32) NOT NULL',
      'actor VARCHAR(191) NOT NULL',
      'worker VARCHAR(64) NULL',
      'stopped_by VARCHAR(191) NULL',
      'pool VARCHAR(50) NULL',
      'language VARCHAR(50) NULL',
      'main_path VARCHAR(1024) NULL',
      'manifest_hash CHAR(64) NULL',
      // Allows one live run per task and actor. A unique index enforces it; a check before the insert would race.
      'active_key CHAR(64) NULL',
      'traceparent VARCHAR(64) NULL',
      `message ${text} NULL`,
      `remarks ${text} NULL`,
      `argv ${text} NULL`,
      `limits ${text} NULL`,
      `log_position ${text} NULL`,
      `output ${text} NULL`,
      `ending ${text} NULL`,
      `log_index ${text} NULL`,
    ].join(', '),
    { postgres: 'WITH (fillfactor = 70)' },
  );
  ddl.index('runner_run_active', 'runner_run', 'active_key', { unique: true });
  ddl.index('runner_run_task', 'runner_run', 'task_id, id');
  ddl.index('runner_run_actor', 'runner_run', 'actor, id');
  ddl.index('runner_run_queue', 'runner_run', 'pool, priority DESC, id', {
    where: "phase = 'queued'",
    wide: 'phase, pool, priority DESC, id',
  });
  ddl.index('runner_run_live', 'runner_run', 'id', {
    where: "phase IN ('claimed', 'starting', 'running', 'collecting')",
    wide: 'phase, id',
  });
  ddl.index('runner_run_unpacked', 'runner_run', 'id', { where: "phase = 'terminal' AND log_packed = 0", wide: 'log_packed, phase, id' });
  ddl.table(
    'runner_event',
    [
      'run_id BIGINT NOT NULL',
      'at_ms BIGINT NOT NULL',
      'seq INTEGER NOT NULL',
      'kind VARCHAR(10) NOT NULL',
      `content ${bytes} NOT NULL`,
      'PRIMARY KEY (run_id, seq)',
    ].join(', '),
  );
  return ddl.statements;
}

/** By these the sweep finds the runs that ended, and the tasks that were removed, long ago. */
function indexEnded(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.index('runner_run_ended', 'runner_run', 'ended_at', { where: "phase = 'terminal'", wide: 'phase, ended_at' });
  ddl.index('runner_task_removed', 'runner_task', 'removed_at', { where: 'removed_at IS NOT NULL' });
  return ddl.statements;
}

/**
 * The rows of stored contents, by which the sweep finds those that nothing refers to. Contents of files get theirs here, contents of older runs
 * in the sweep, since their manifests are in the file store. The sweep looks at them a day from now, when processes of the earlier version,
 * which write no rows, have ended.
 */
async function addBlobs(database: Database, sql: SqlRunner): Promise<readonly string[]> {
  const ddl = new SchemaWriter(database);
  const table = (name: string): string => database.table(name);
  ddl.table(
    'runner_blob',
    ['hash CHAR(64) NOT NULL PRIMARY KEY', 'look_at BIGINT NOT NULL', 'doomed_at BIGINT NULL', 'doomed_by VARCHAR(64) NULL'].join(', '),
  );
  ddl.index('runner_blob_look', 'runner_blob', 'look_at', { where: 'doomed_at IS NULL', wide: 'doomed_at, look_at' });
  if (database.family !== 'mysql') ddl.index('runner_blob_doomed', 'runner_blob', 'doomed_at', { where: 'doomed_at IS NOT NULL' });
  ddl.table(
    'runner_manifest_blob',
    ['manifest_hash CHAR(64) NOT NULL', 'blob_hash CHAR(64) NOT NULL', 'PRIMARY KEY (manifest_hash, blob_hash)'].join(', '),
  );
  ddl.index('runner_manifest_blob_blob', 'runner_manifest_blob', 'blob_hash');
  ddl.index('runner_file_blob', 'runner_file', 'blob_hash');
  ddl.index('runner_run_manifest', 'runner_run', 'manifest_hash');
  if (!(await tableColumns(database, sql, 'runner_run')).has('manifest_recorded'))
    ddl.statements.push(`ALTER TABLE ${table('runner_run')} ADD COLUMN manifest_recorded INTEGER NOT NULL DEFAULT 0`);
  ddl.index('runner_run_unrecorded', 'runner_run', 'id', {
    where: 'manifest_recorded = 0 AND manifest_hash IS NOT NULL',
    wide: 'manifest_recorded, manifest_hash',
  });
  if (database.family === 'postgres') ddl.index('runner_object_prefix', 'runner_object', 'name COLLATE "C"', { where: 'part = 0' });
  ddl.statements.push(
    database.sql(
      insertNew(
        database,
        // Without a condition SQLite would take ON CONFLICT for one of a join.
        `INTO ${table('runner_blob')} (hash, look_at) SELECT DISTINCT blob_hash, {now} + 86400000 FROM ${table('runner_file')} WHERE true`,
      ),
    ),
  );
  return ddl.statements;
}

/** What a run's program has used, as JSON. */
async function addUsage(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const { text } = new SchemaWriter(database);
  const existing = await tableColumns(database, look, 'runner_run');
  return existing.has('used') ? [] : [`ALTER TABLE ${database.table('runner_run')} ADD COLUMN used ${text} NULL`];
}
