import { type Database, type Schema, type SqlRunner, tableColumns, workColumns } from '@holdfast/core';

/** The tables of this package. Adopts a classic `compensate_biz` table in place, rows and all, while old code runs. */
export const compensateBizSchema: Schema = {
  name: 'compensate-biz',
  migrations: [{ name: '0001_create', statements: create }],
};

interface Column {
  readonly name: string;
  readonly type: string;
  readonly createDefault?: string;
}

function ownColumns(database: Database): readonly Column[] {
  return [
    ...workColumns(database),
    { name: 'tenant', type: "VARCHAR(100) NOT NULL DEFAULT ''" },
    { name: 'schema_version', type: 'INTEGER NOT NULL DEFAULT 1' },
    { name: 'subject', type: 'VARCHAR(191) NULL' },
    { name: 'traceparent', type: 'VARCHAR(64) NULL' },
    { name: 'parent_id', type: 'BIGINT NULL' },
    { name: 'child_key', type: 'VARCHAR(191) NULL' },
    { name: 'gate', type: 'VARCHAR(191) NULL' },
  ];
}

/**
 * The physical order. A row is rewritten when it is claimed and when it ends; on Postgres it pays that what changes stands
 * together, before the long and the mostly empty columns, that a page has room for the new version of each of its rows
 * (fillfactor 50: a kept row then takes two places in all, not three), and that the primary key's pages have room for the
 * entries of three versions. Together 14% more rows a second where they are kept, 8% where they are deleted.
 */
const columnOrder = [
  ...['id', 'claim_rank', 'created_at', 'cnt', 'schema_version'],
  ...['version', 'starts', 'lost', 'updated_at', 'lease_until', 'status', 'owner'],
  ...['biz_type', 'tenant', 'parent_id', 'run_at', 'priority', 'gate', 'child_key', 'biz_id', 'dead_reason', 'subject', 'traceparent'],
  ...['context', 'last_failed_reason'],
] as const;

async function create(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const t = database.table('compensate_biz');
  const mysql = database.family === 'mysql';
  const existing = await tableColumns(database, look, 'compensate_biz');
  const end = mysql ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin' : '';
  const id =
    database.family === 'postgres'
      ? 'BIGSERIAL'
      : database.family === 'sqlite'
        ? 'INTEGER PRIMARY KEY AUTOINCREMENT'
        : 'BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY';
  const text = mysql ? 'LONGTEXT' : 'TEXT';
  const time =
    database.family === 'postgres'
      ? 'TIMESTAMPTZ NOT NULL DEFAULT now()'
      : database.family === 'sqlite'
        ? "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))"
        : 'DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)';
  const statements: string[] = [];
  if (existing.size === 0) {
    const types = new Map<string, string>([
      ['id', id],
      ['biz_id', 'VARCHAR(191) NULL'],
      ['biz_type', 'VARCHAR(100) NOT NULL'],
      ['context', `${text} NULL`],
      ['status', "VARCHAR(20) NOT NULL DEFAULT 'WAIT_HANDLE'"],
      ['cnt', 'INTEGER NOT NULL DEFAULT 0'],
      ['priority', 'INTEGER NULL DEFAULT 0'],
      ['last_failed_reason', `${text} NULL`],
      ['created_at', time],
      ['updated_at', time],
      ...ownColumns(database).map(({ name, type, createDefault }): [string, string] => [
        name,
        createDefault ? type.replace('DEFAULT 0', `DEFAULT ${createDefault}`) : type,
      ]),
    ]);
    const columns = columnOrder.map((name) => `${name} ${types.get(name)}`);
    const room = database.family === 'postgres' ? ' WITH (fillfactor = 50)' : '';
    statements.push(
      `CREATE TABLE IF NOT EXISTS ${t} (${columns.join(', ')}${database.family === 'postgres' ? ', PRIMARY KEY (id) WITH (fillfactor = 30)' : ''})${room}${end}`,
    );
  } else {
    // First with a constant default, which rewrites no row; then the default that new rows of old code get.
    for (const column of ownColumns(database)) {
      if (existing.has(column.name)) continue;
      statements.push(`ALTER TABLE ${t} ADD COLUMN ${column.name} ${column.type}`);
      if (column.createDefault && database.family !== 'sqlite')
        statements.push(`ALTER TABLE ${t} ALTER COLUMN ${column.name} SET DEFAULT ${column.createDefault}`);
    }
    if (mysql && existing.get('cnt')?.startsWith('tinyint')) statements.push(`ALTER TABLE ${t} MODIFY cnt INT NOT NULL DEFAULT 0`);
    if (database.family === 'postgres' && existing.get('cnt') === 'smallint')
      statements.push(`ALTER TABLE ${t} ALTER COLUMN cnt TYPE INTEGER`);
    if (database.family === 'postgres') statements.push(`ALTER TABLE ${t} ALTER COLUMN updated_at SET DEFAULT now()`);
  }
  statements.push(...(await brokenIndexes(database, look)), ...indexes(database, existing.size > 0));
  statements.push(
    // With a primary key of its own: servers that replicate row by row refuse tables or deletions without one.
    `CREATE TABLE IF NOT EXISTS ${database.table('compensate_biz_attempt')} (id ${database.family === 'postgres' ? 'BIGSERIAL PRIMARY KEY' : id}, task_id BIGINT NOT NULL, number INTEGER NOT NULL, outcome VARCHAR(20) NOT NULL, error ${text} NULL, ended_at BIGINT NOT NULL${mysql ? ', KEY compensate_biz_attempt_task (task_id)' : ''})${end}`,
    `CREATE TABLE IF NOT EXISTS ${database.table('compensate_biz_fan_out')} (parent_id BIGINT NOT NULL PRIMARY KEY, biz_type VARCHAR(100) NOT NULL, produced BIGINT NOT NULL DEFAULT 0, total BIGINT NULL, on_complete ${text} NULL)${end}`,
    `CREATE TABLE IF NOT EXISTS ${database.table('compensate_biz_fan_out_count')} (parent_id BIGINT NOT NULL, worker VARCHAR(100) NOT NULL, done BIGINT NOT NULL, failed BIGINT NOT NULL, cancelled BIGINT NOT NULL, PRIMARY KEY (parent_id, worker))${end}`,
    `CREATE TABLE IF NOT EXISTS ${database.table('compensate_biz_type')} (biz_type VARCHAR(100) NOT NULL PRIMARY KEY, paused INTEGER NOT NULL DEFAULT 0)${end}`,
  );
  if (!mysql)
    statements.push(
      `CREATE INDEX IF NOT EXISTS ${database.tablePrefix}compensate_biz_attempt_task ON ${database.table('compensate_biz_attempt')} (task_id)`,
    );
  return statements;
}

/** Built without blocking writers where the table is adopted: CONCURRENTLY on Postgres, online on MySQL and MariaDB. */
function indexes(database: Database, adopted: boolean): readonly string[] {
  const t = database.table('compensate_biz');
  if (database.family === 'mysql') {
    return [
      // Suspects, with lost above 0, stand apart: a claim would lock what it passes over. None on leases, which each claim, renewal and
      // settle would write to: the rows that run are few, and rescue finds them by their status (MySQL 9.7: 0.77 of raw SQL, not 0.65).
      `CREATE INDEX compensate_biz_ready ON ${t} (status, lost, biz_type, tenant, claim_rank)`,
      `CREATE INDEX compensate_biz_due ON ${t} (status, run_at)`,
      `CREATE INDEX compensate_biz_gate ON ${t} (gate, id)`,
      `CREATE UNIQUE INDEX compensate_biz_child ON ${t} (parent_id, child_key)`,
    ].map((sql) => (database.dialect === 'mariadb' ? sql.replace(/INDEX (\w+)/, 'INDEX IF NOT EXISTS $1') : sql));
  }
  const concurrently = adopted && database.family === 'postgres' ? ' CONCURRENTLY' : '';
  const index = (name: string, columns: string, where: string, unique = ''): string =>
    `CREATE${unique} INDEX${concurrently} IF NOT EXISTS ${database.tablePrefix}compensate_biz_${name} ON ${t} (${columns}) WHERE ${where}`;
  return [
    index('ready', 'biz_type, tenant, claim_rank, id', "status = 'WAIT_HANDLE' AND lost = 0"),
    index('suspect', 'biz_type, lost, claim_rank, id', "status = 'WAIT_HANDLE' AND lost > 0"),
    index('lease', 'lease_until', "status = 'PROCESSING'"),
    index('due', 'run_at', "status = 'SCHEDULED'"),
    index('gate', 'gate, id', "status = 'BLOCKED'"),
    index('failed', 'biz_type, id', "status = 'FAILED'"),
    index('child', 'parent_id, child_key', 'parent_id IS NOT NULL', ' UNIQUE'),
  ];
}

/** Drops what an interrupted CREATE INDEX CONCURRENTLY left behind, which `IF NOT EXISTS` would take for the index. */
async function brokenIndexes(database: Database, look: SqlRunner): Promise<readonly string[]> {
  if (database.family !== 'postgres') return [];
  const rows = await look.rows<{ name: string }>(
    'SELECT c.oid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace WHERE t.relname = ? AND n.nspname = COALESCE(?, current_schema()) AND NOT i.indisvalid',
    [`${database.tablePrefix}compensate_biz`, database.schema ?? null],
  );
  return rows.map(({ name }) => `DROP INDEX ${name}`);
}
