import { type Database, type Schema, SchemaWriter, workColumns } from '@holdfast/core';

/** The tables of this package, for `migrate`. */
export const schedulerSchema: Schema = {
  name: 'scheduler',
  migrations: [{ name: '0001_create', statements: create }],
};

function create(database: Database): readonly string[] {
  const schema = new SchemaWriter(database);
  const { id, text } = schema;
  const mysql = database.family === 'mysql';
  schema.table(
    'scheduler_job',
    [
      `id ${id}`,
      'app VARCHAR(100) NOT NULL',
      'job_key VARCHAR(191) NOT NULL',
      'version INTEGER NOT NULL',
      'enabled INTEGER NOT NULL',
      'created_at BIGINT NOT NULL',
      'updated_at BIGINT NOT NULL',
      // The next fire that is not a row yet; NULL if there is none.
      'next_at BIGINT NULL',
      `definition ${text} NOT NULL`,
    ].join(', '),
  );
  schema.index('scheduler_job_key', 'scheduler_job', 'app, job_key', { unique: true });
  schema.index('scheduler_job_next', 'scheduler_job', 'next_at', { where: 'next_at IS NOT NULL' });
  schema.table(
    'scheduler_run',
    [
      `id ${id}`,
      ...workColumns(database).map(
        ({ name, type, createDefault }) => `${name} ${createDefault ? type.replace('DEFAULT 0', `DEFAULT ${createDefault}`) : type}`,
      ),
      'processor VARCHAR(191) NOT NULL',
      'app VARCHAR(100) NOT NULL',
      'status VARCHAR(20) NOT NULL',
      'attempts INTEGER NOT NULL DEFAULT 0',
      'priority INTEGER NULL DEFAULT 0',
      'job_id BIGINT NOT NULL',
      'job_version INTEGER NOT NULL',
      // The instant that the trigger names; NULL for a run that a call asked for.
      'fire_at BIGINT NULL',
      'created_at BIGINT NOT NULL',
      `updated_at ${database.family === 'postgres' ? 'TIMESTAMPTZ NOT NULL DEFAULT now()' : mysql ? 'DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)' : "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))"}`,
      // The job's id, if its runs take turns.
      'gate VARCHAR(191) NULL',
      // 1 if the run is SKIPPED once it is due and its turn has not come.
      'skips INTEGER NOT NULL DEFAULT 0',
      `params ${text} NOT NULL`,
      `settings ${text} NOT NULL`,
      `last_error ${text} NULL`,
      `run_progress ${text} NULL`,
      `run_result ${text} NULL`,
      ...(mysql
        ? [
            "ended_status VARCHAR(20) GENERATED ALWAYS AS (CASE WHEN status IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'SKIPPED') THEN status END) VIRTUAL",
            "due_at BIGINT GENERATED ALWAYS AS (CASE WHEN status = 'SCHEDULED' THEN COALESCE(run_at, 9223372036854775807) END) VIRTUAL",
          ]
        : []),
    ].join(', '),
    { postgres: 'WITH (fillfactor = 50)' },
  );
  // A fire is one run, whoever plans it.
  schema.index('scheduler_run_fire', 'scheduler_run', 'job_id, fire_at', { unique: true });
  schema.index('scheduler_run_skips', 'scheduler_run', 'run_at', {
    where: "status = 'BLOCKED' AND skips = 1",
    wide: 'skips, status, run_at',
  });
  if (mysql) {
    schema.index('scheduler_run_ready', 'scheduler_run', 'status, lost, processor, app, claim_rank');
    schema.index('scheduler_run_due_ended', 'scheduler_run', 'due_at, ended_status, processor');
    schema.index('scheduler_run_gate', 'scheduler_run', 'gate, id');
  } else {
    const index = (name: string, columns: string, where: string): void =>
      schema.index(`scheduler_run_${name}`, 'scheduler_run', columns, { where });
    index('ready', 'processor, app, claim_rank, id', "status = 'READY' AND lost = 0");
    index('suspect', 'processor, lost, claim_rank, id', "status = 'READY' AND lost > 0");
    index('lease', 'lease_until', "status = 'RUNNING'");
    index('due', 'run_at', "status = 'SCHEDULED'");
    index('gate', 'gate, id', "status = 'BLOCKED'");
    for (const [name, status] of [
      ['succeeded', 'SUCCEEDED'],
      ['failed', 'FAILED'],
      ['cancelled', 'CANCELLED'],
      ['skipped', 'SKIPPED'],
    ] as const)
      index(name, 'processor, id', `status = '${status}'`);
  }
  schema.table(
    'scheduler_attempt',
    `id ${id}, task_id BIGINT NOT NULL, number INTEGER NOT NULL, outcome VARCHAR(20) NOT NULL, error ${text} NULL, ended_at BIGINT NOT NULL`,
  );
  schema.index('scheduler_attempt_task', 'scheduler_attempt', 'task_id');
  return schema.statements;
}
