import { type Database, keepTrailingSpaces, type Schema, SchemaWriter, type SqlRunner, tableColumns, workColumns } from '@holdfast/core';

/** The tables of this package, to be passed to `migrate`. */
export const notifierSchema: Schema = {
  name: 'notifier',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(database, sql, [
          'notifier_endpoint',
          'notifier_notification',
          'notifier_attempt',
          'notifier_wake',
          // Of a later migration: there already if this one is run again.
          'notifier_subscription',
        ]),
    },
    { name: '0003_ended', statements: indexEnded },
    { name: '0004_targets', statements: addTargets },
  ],
};

/** The states of an endpoint's row. An IDLE endpoint has nothing to send; a WAITING endpoint has something to send at `run_at`. */
export const endpointStates = {
  scheduled: 'WAITING',
  ready: 'READY',
  blocked: 'PAUSED',
  running: 'SERVING',
  done: 'IDLE',
  dead: 'DEAD',
  cancelled: 'CANCELLED',
} as const;

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  const { id, text } = ddl;
  const time =
    database.family === 'postgres'
      ? 'TIMESTAMPTZ NOT NULL DEFAULT now()'
      : database.family === 'sqlite'
        ? "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))"
        : 'DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)';
  const claim = workColumns(database).map(({ name, type }) => `${name} ${type}`);
  ddl.table(
    'notifier_endpoint',
    [
      `id ${id}`,
      ...claim,
      `status VARCHAR(10) NOT NULL DEFAULT 'IDLE'`,
      `updated_at ${time}`,
      'failures INTEGER NOT NULL DEFAULT 0',
      'opened INTEGER NOT NULL DEFAULT 0',
      'hold_until BIGINT NOT NULL DEFAULT 0',
      'turns INTEGER NOT NULL DEFAULT 0',
      'priority INTEGER NOT NULL DEFAULT 0',
      'paused INTEGER NOT NULL DEFAULT 0',
      'concurrency INTEGER NULL',
      'interval_ms INTEGER NULL',
      'previous_key_until BIGINT NULL',
      "pool VARCHAR(50) NOT NULL DEFAULT ''",
      'tenant VARCHAR(100) NOT NULL',
      'origin VARCHAR(300) NOT NULL',
      'key_ref VARCHAR(191) NULL',
      'previous_key_ref VARCHAR(191) NULL',
      `last_error ${text} NULL`,
    ].join(', '),
    { postgres: 'WITH (fillfactor = 70)' },
  );
  ddl.index('notifier_endpoint_origin', 'notifier_endpoint', 'tenant, origin', { unique: true });
  ddl.index('notifier_endpoint_ready', 'notifier_endpoint', 'pool, claim_rank, id', {
    where: "status = 'READY' AND lost = 0",
    wide: 'status, lost, pool, claim_rank',
  });
  ddl.index('notifier_endpoint_suspect', 'notifier_endpoint', 'pool, lost, claim_rank, id', {
    where: "status = 'READY' AND lost > 0",
    wide: 'status, pool, lost, claim_rank',
  });
  ddl.index('notifier_endpoint_lease', 'notifier_endpoint', 'lease_until', { where: "status = 'SERVING'", wide: 'status, lease_until' });
  ddl.index('notifier_endpoint_due', 'notifier_endpoint', 'run_at', { where: "status = 'WAITING'", wide: 'status, run_at' });
  ddl.table(
    'notifier_notification',
    [
      `id ${id}`,
      'endpoint_id BIGINT NOT NULL',
      'due_at BIGINT NULL',
      'last_notified_at BIGINT NULL',
      'responded_at BIGINT NULL',
      'ended_at BIGINT NULL',
      'created_at BIGINT NOT NULL',
      'notify_times INTEGER NOT NULL DEFAULT 0',
      'response_status INTEGER NULL',
      'sequence INTEGER NOT NULL DEFAULT 0',
      'supersede INTEGER NOT NULL DEFAULT 0',
      "state VARCHAR(10) NOT NULL DEFAULT 'PENDING'",
      "next_trigger VARCHAR(10) NOT NULL DEFAULT 'auto'",
      'tenant VARCHAR(100) NOT NULL',
      'subject_id VARCHAR(191) NOT NULL',
      'status VARCHAR(64) NOT NULL',
      'webhook_id VARCHAR(64) NOT NULL',
      'url VARCHAR(2048) NOT NULL',
      'content_type VARCHAR(100) NOT NULL',
      'key_ref VARCHAR(191) NULL',
      'reason VARCHAR(191) NULL',
      'traceparent VARCHAR(64) NULL',
      `sealed_key ${text} NULL`,
      `headers ${text} NULL`,
      `params ${text} NOT NULL`,
    ].join(', '),
    { postgres: 'WITH (fillfactor = 80)' },
  );
  ddl.index('notifier_notification_event', 'notifier_notification', 'tenant, subject_id, status, sequence', { unique: true });
  ddl.index('notifier_notification_due', 'notifier_notification', 'endpoint_id, due_at, id', {
    where: "state = 'PENDING'",
    wide: 'state, endpoint_id, due_at, id',
  });
  ddl.index('notifier_notification_ended', 'notifier_notification', 'ended_at', { where: "state <> 'PENDING'" });
  ddl.index('notifier_notification_exhausted', 'notifier_notification', 'id', { where: "state = 'EXHAUSTED'", wide: 'state, id' });
  ddl.table(
    'notifier_attempt',
    [
      'notification_id BIGINT NOT NULL',
      'number INTEGER NOT NULL',
      'started_at BIGINT NOT NULL',
      'ended_at BIGINT NULL',
      'duration_ms INTEGER NULL',
      'http_status INTEGER NULL',
      'trigger_by VARCHAR(10) NOT NULL',
      'outcome VARCHAR(12) NOT NULL',
      'error_code VARCHAR(60) NULL',
      'remote_address VARCHAR(45) NULL',
      `snippet ${text} NULL`,
      'PRIMARY KEY (notification_id, number)',
    ].join(', '),
    { postgres: 'WITH (fillfactor = 45)' },
  );
  // A wake row is committed with each notification: its endpoint has something to send. Wake rows are only inserted and deleted, so a
  // trigger waits for no other transaction.
  ddl.table('notifier_wake', `id ${id}, endpoint_id BIGINT NOT NULL`);
  ddl.index('notifier_wake_endpoint', 'notifier_wake', 'endpoint_id');
  return ddl.statements;
}

/** Ended notifications are deleted by state, since those that were given up are kept longer. */
function indexEnded(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.index('notifier_notification_state', 'notifier_notification', 'state, ended_at', { where: "state <> 'PENDING'" });
  return ddl.statements;
}

/**
 * An event is one per target: the URL, or the endpoint that subscribed to it. Rows of earlier versions have no target; their URL is compared.
 * `resends` counts how often a person had a notification sent again. An endpoint may have a URL, headers and a schedule of its own.
 */
async function addTargets(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const ddl = new SchemaWriter(database);
  const columns: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    notifier_notification: { target: "VARCHAR(64) NOT NULL DEFAULT ''", resends: 'INTEGER NOT NULL DEFAULT 0' },
    notifier_endpoint: {
      url: 'VARCHAR(2048) NULL',
      headers: `${ddl.text} NULL`,
      delays: `${ddl.text} NULL`,
      disabled: 'INTEGER NOT NULL DEFAULT 0',
      failing_since: 'BIGINT NULL',
    },
  };
  for (const [table, added] of Object.entries(columns)) {
    const existing = await tableColumns(database, look, table);
    for (const [name, type] of Object.entries(added))
      if (!existing.has(name)) ddl.statements.push(`ALTER TABLE ${database.table(table)} ADD COLUMN ${name} ${type}`);
  }
  const notifications = database.table('notifier_notification');
  const rows =
    (await tableColumns(database, look, 'notifier_notification')).size === 0
      ? []
      : await look.rows(`SELECT 1 AS one FROM ${notifications} LIMIT 1`);
  ddl.index('notifier_notification_target', 'notifier_notification', 'tenant, subject_id, status, sequence, target', {
    unique: true,
    concurrently: rows.length > 0,
  });
  // After the new one is there, so that no event is accepted twice meanwhile.
  if (database.family !== 'mysql') ddl.statements.push(`DROP INDEX IF EXISTS ${database.table('notifier_notification_event')}`);
  else if (await oldIndexMayExist(database, look))
    ddl.statements.push(`ALTER TABLE ${notifications} DROP INDEX notifier_notification_event`);
  ddl.table(
    'notifier_subscription',
    'tenant VARCHAR(100) NOT NULL, event_type VARCHAR(64) NOT NULL, endpoint_id BIGINT NOT NULL, PRIMARY KEY (tenant, event_type, endpoint_id)',
  );
  ddl.index('notifier_subscription_endpoint', 'notifier_subscription', 'endpoint_id');
  return ddl.statements;
}

/** MySQL has no DROP INDEX IF EXISTS, and a migration that was interrupted runs again. */
async function oldIndexMayExist(database: Database, look: SqlRunner): Promise<boolean> {
  const table = `${database.tablePrefix}notifier_notification`;
  const found = await look.rows<{ name: string }>(
    'SELECT DISTINCT index_name AS name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ?',
    [table],
  );
  // Without any, the table is still to be made: the statements are only printed.
  return found.length === 0 || found.some(({ name }) => name === 'notifier_notification_event');
}
