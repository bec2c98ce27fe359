import {
  type Database,
  inByteCollation,
  keepTrailingSpaces,
  type Schema,
  SchemaWriter,
  type SqlRunner,
  tableColumns,
  workColumns,
} from '@holdfast/core';
import { adoptColumns, type Column } from './adopt-columns.ts';
import { endedSql } from './statuses.ts';

/** The tables of this package. Adopts a classic `compensate_biz` table in place, rows and all, while old code runs. */
export const compensateBizSchema: Schema = {
  name: 'compensate-biz',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(
          database,
          sql,
          ['compensate_biz_attempt', 'compensate_biz_fan_out', 'compensate_biz_fan_out_count', 'compensate_biz_type'],
          {
            table: 'compensate_biz',
            columns: ownColumns(database).filter(({ type }) => type.startsWith('VARCHAR')),
          },
        ),
    },
    { name: '0003_lookup', statements: lookup },
    { name: '0004_result', statements: result },
    { name: '0005_due_and_ended', statements: indexDueAndEnded },
    { name: '0006_cancel', statements: cancelFanOuts },
  ],
};

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
 * The physical order of the columns. A row is rewritten when it is claimed and when it ends. On Postgres three things pay: the columns
 * that change stand together, before the long and the mostly empty ones; a page has room for the new version of each of its rows
 * (fillfactor 50: a kept row then takes two places in all, not three); and the primary key's pages have room for the entries of three
 * versions. Together they give 14% more rows a second where rows are kept, 8% where they are deleted.
 */
const columnOrder = [
  ...['id', 'claim_rank', 'created_at', 'cnt', 'schema_version'],
  ...['version', 'starts', 'lost', 'updated_at', 'lease_until', 'status', 'owner'],
  ...['biz_type', 'tenant', 'parent_id', 'run_at', 'priority', 'gate', 'child_key', 'biz_id', 'dead_reason', 'subject', 'traceparent'],
  ...['context', 'last_failed_reason'],
] as const;

async function create(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const mysql = database.family === 'mysql';
  const postgres = database.family === 'postgres';
  const existing = await tableColumns(database, look, 'compensate_biz');
  const schema = new SchemaWriter(database);
  const { statements, text } = schema;
  const time = postgres
    ? 'TIMESTAMPTZ NOT NULL DEFAULT now()'
    : mysql
      ? 'DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)'
      : "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))";
  if (existing.size === 0) {
    const types = new Map<string, string>([
      ['id', postgres ? 'BIGSERIAL' : schema.id],
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
    if (postgres) columns.push('PRIMARY KEY (id) WITH (fillfactor = 30)');
    schema.table('compensate_biz', columns.join(', '), { postgres: 'WITH (fillfactor = 50)' });
  } else {
    statements.push(...(await adoptColumns(database, look, ownColumns(database), existing, text)));
  }
  addIndexes(schema, database, existing.size > 0);
  // The table has a primary key: servers that replicate row by row refuse tables, or deletions, without one.
  schema.table(
    'compensate_biz_attempt',
    `id ${schema.id}, task_id BIGINT NOT NULL, number INTEGER NOT NULL, outcome VARCHAR(20) NOT NULL, error ${text} NULL, ended_at BIGINT NOT NULL${mysql ? ', KEY compensate_biz_attempt_task (task_id)' : ''}`,
  );
  schema.table(
    'compensate_biz_fan_out',
    `parent_id BIGINT NOT NULL PRIMARY KEY, biz_type VARCHAR(100) NOT NULL, produced BIGINT NOT NULL DEFAULT 0, total BIGINT NULL, on_complete ${text} NULL`,
  );
  schema.table(
    'compensate_biz_fan_out_count',
    'parent_id BIGINT NOT NULL, worker VARCHAR(100) NOT NULL, done BIGINT NOT NULL, failed BIGINT NOT NULL, cancelled BIGINT NOT NULL, PRIMARY KEY (parent_id, worker)',
  );
  schema.table('compensate_biz_type', 'biz_type VARCHAR(100) NOT NULL PRIMARY KEY, paused INTEGER NOT NULL DEFAULT 0');
  if (!mysql) schema.index('compensate_biz_attempt_task', 'compensate_biz_attempt', 'task_id');
  return statements;
}

/** The indexes of an adopted table are built without blocking writers: CONCURRENTLY on Postgres, online on MySQL and MariaDB. */
function addIndexes(schema: SchemaWriter, database: Database, adopted: boolean): void {
  if (database.family === 'mysql') {
    // Suspects (lost > 0) are apart in the index, since a claim locks the entries that it passes over. Leases have no index, since each claim,
    // renewal and settle would write to it: few rows run, and rescue finds them by their status (MySQL 9.7: 0.77 of raw SQL, not 0.65).
    schema.index('compensate_biz_ready', 'compensate_biz', 'status, lost, biz_type, tenant, claim_rank');
    schema.index('compensate_biz_gate', 'compensate_biz', 'gate, id');
    schema.index('compensate_biz_child', 'compensate_biz', 'parent_id, child_key', { unique: true });
    return;
  }
  const index = (name: string, columns: string, where: string, unique = false): void =>
    schema.index(`compensate_biz_${name}`, 'compensate_biz', columns, { where, unique, concurrently: adopted });
  index('ready', 'biz_type, tenant, claim_rank, id', "status = 'WAIT_HANDLE' AND lost = 0");
  index('suspect', 'biz_type, lost, claim_rank, id', "status = 'WAIT_HANDLE' AND lost > 0");
  index('lease', 'lease_until', "status = 'PROCESSING'");
  index('due', 'run_at', "status = 'SCHEDULED'");
  index('gate', 'gate, id', "status = 'BLOCKED'");
  index('failed', 'biz_type, id', "status = 'FAILED'");
  index('child', 'parent_id, child_key', 'parent_id IS NOT NULL', true);
}

/**
 * Indexes to find rows by what they are for. On Postgres and SQLite a row without the key has no entry and costs nothing. Medians of four
 * rounds with all three keys set: Postgres, 18% fewer submits by 1,000 a second and 46% fewer claims and settles, since each change of the status
 * writes to every index of the row; MySQL, 17% and nothing. A service that does not search by a key may drop its index: no migration makes it
 * again, and a search without it walks the table. Without keys nothing is slower but submits on MySQL, by 6%.
 */
async function lookup(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const schema = new SchemaWriter(database);
  const t = database.table('compensate_biz');
  const existing = await tableColumns(database, look, 'compensate_biz');
  // An index is built CONCURRENTLY only where there are rows: it waits for every open transaction of the server.
  const rows = existing.size === 0 ? [] : await look.rows(`SELECT 1 AS one FROM ${t} LIMIT 1`);
  for (const [name, column, where] of [
    ['biz_id', 'biz_id', 'biz_id IS NOT NULL'],
    ['subject', 'subject', 'subject IS NOT NULL'],
    ['tenant', 'tenant', "tenant <> ''"],
  ] as const)
    schema.index(`compensate_biz_${name}`, 'compensate_biz', `${column}, id`, {
      where,
      wide: keyPart(column, existing.get(column)),
      concurrently: rows.length > 0,
    });
  return schema.statements;
}

/** MySQL, MariaDB: a column of an adopted table may be too long for a key. Its first 191 characters, which is all that we write, will do. */
function keyPart(column: string, type: string = ''): string {
  const length = Number(/char\((\d+)\)/.exec(type)?.[1] ?? 0);
  return length > 191 || /text|blob/.test(type) ? `${column}(191)` : column;
}

/** What a run returns, and what it reports while it is under way. */
async function result(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const existing = await tableColumns(database, look, 'compensate_biz');
  const { text } = new SchemaWriter(database);
  return ['run_progress', 'run_result']
    .filter((name) => !existing.has(name))
    .map((name) => `ALTER TABLE ${database.table('compensate_biz')} ADD COLUMN ${name} ${text} NULL`);
}

/**
 * The indexes by which ended rows are counted and deleted: one entry for each row that has ended. MySQL and MariaDB have no partial index; there
 * one index holds both the SCHEDULED rows by time and the ended rows by type, and columns that are NULL in all others, so that claims and
 * retries do not write to it. What lost: an index of its own on `(ended_status, biz_type)` beside one on `(status, run_at)` (MySQL, kept rows: 16%
 * fewer claims and settles a second, and 16% fewer submits by 1,000); on Postgres and SQLite, one index on `(status, biz_type, id)` of the three
 * statuses (SQLite: 12% fewer, since each change of a row evaluates the list).
 */
async function indexDueAndEnded(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const t = database.table('compensate_biz');
  const schema = new SchemaWriter(database);
  const existing = await tableColumns(database, look, 'compensate_biz');
  if (database.family === 'mysql') {
    const generated = [
      ['ended_status', `VARCHAR(20) GENERATED ALWAYS AS (CASE WHEN ${endedSql} THEN status END) VIRTUAL`],
      ['due_at', "BIGINT GENERATED ALWAYS AS (CASE WHEN status = 'SCHEDULED' THEN COALESCE(run_at, 9223372036854775807) END) VIRTUAL"],
    ].filter(([name]) => !existing.has(String(name)));
    if (generated.length > 0)
      schema.statements.push(`ALTER TABLE ${t} ${generated.map(([name, type]) => `ADD COLUMN ${name} ${type}`).join(', ')}`);
    schema.index('compensate_biz_due_ended', 'compensate_biz', 'due_at, ended_status, biz_type');
    return schema.statements;
  }
  const rows = existing.size === 0 ? [] : await look.rows(`SELECT 1 AS one FROM ${t} LIMIT 1`);
  for (const [name, status] of [
    ['done', 'SUCCESS'],
    ['cancelled', 'CANCELLED'],
  ])
    schema.index(`compensate_biz_${name}`, 'compensate_biz', 'biz_type, id', {
      where: `status = '${status}'`,
      concurrently: rows.length > 0,
    });
  return schema.statements;
}

/**
 * Whether a fan-out was cancelled, and the key of the child up to which its children were; NULL if none is to be cancelled. And whether a sweep
 * must look at it: see `unfinishedSql`. One index holds the fan-outs that are being cancelled, the other those that are unfinished: a few at
 * most, after the first sweep has gone through those that are there.
 */
async function cancelFanOuts(database: Database, look: SqlRunner): Promise<readonly string[]> {
  const existing = await tableColumns(database, look, 'compensate_biz_fan_out');
  const schema = new SchemaWriter(database);
  for (const [name, type] of [
    ['cancelled', 'INTEGER NOT NULL DEFAULT 0'],
    ['cancel_after', inByteCollation(database, 'VARCHAR(191) NULL')],
    ['unfinished', 'INTEGER NULL DEFAULT 1'],
    ['redriven', 'BIGINT NOT NULL DEFAULT 0'],
  ] as const)
    if (!existing.has(name)) schema.statements.push(`ALTER TABLE ${database.table('compensate_biz_fan_out')} ADD COLUMN ${name} ${type}`);
  schema.index('compensate_biz_fan_out_cancel', 'compensate_biz_fan_out', 'parent_id', {
    where: 'cancel_after IS NOT NULL',
    wide: 'cancel_after',
  });
  schema.index('compensate_biz_fan_out_unfinished', 'compensate_biz_fan_out', 'parent_id', {
    where: 'unfinished = 1',
    wide: 'unfinished',
  });
  return schema.statements;
}
