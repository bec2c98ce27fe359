import { type Database, type Schema, SchemaWriter } from '@holdfast/core';

/** The tables of an executor that has a `knex`: logs of runs, and ends of runs that no admin has accepted yet. */
export const xxlJobSchema: Schema = { name: 'xxl-job', migrations: [{ name: '0001_create', statements: create }] };

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.table(
    'xxl_job_end',
    `id ${ddl.id}, app_name VARCHAR(64) NOT NULL, executor VARCHAR(40) NOT NULL, log_id BIGINT NOT NULL, log_time BIGINT NOT NULL, code INTEGER NOT NULL, msg ${ddl.text} NOT NULL, ended_at BIGINT NOT NULL, due_at BIGINT NOT NULL, refusals INTEGER NOT NULL DEFAULT 0`,
  );
  ddl.index('xxl_job_end_due', 'xxl_job_end', 'app_name, refusals, due_at');
  ddl.index('xxl_job_end_ended', 'xxl_job_end', 'ended_at');
  // A row holds several lines, the first of which has the number first_line.
  ddl.table(
    'xxl_job_log',
    `app_name VARCHAR(64) NOT NULL, log_id BIGINT NOT NULL, first_line BIGINT NOT NULL, line_count INTEGER NOT NULL, content ${ddl.text} NOT NULL, written_at BIGINT NOT NULL, PRIMARY KEY (app_name, log_id, first_line)`,
  );
  ddl.index('xxl_job_log_written', 'xxl_job_log', 'written_at');
  return ddl.statements;
}
