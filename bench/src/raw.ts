import { compensateBizSchema } from '@holdfast/compensate-biz';
import { coreSchema, migrate } from '@holdfast/core';
import type { TestDatabase } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';

/**
 * The same work in bare SQL, on a table with only the columns that a queue needs: the limit of the server. The order by rank keeps the plan
 * off the primary key, by which it would read all rows that are done.
 */
const ddl =
  'id BIGSERIAL PRIMARY KEY, kind varchar(100) NOT NULL, context text, status int NOT NULL DEFAULT 0, version int NOT NULL DEFAULT 0, rank bigint NOT NULL DEFAULT 0, lease_until bigint';

function client(db: TestDatabase): pg.Client {
  const url = new URL(db.address);
  const schema = url.searchParams.get('schema') ?? 'public';
  url.search = '';
  return new pg.Client({ connectionString: url.href, options: `-c search_path=${schema}` });
}

async function withClients<T>(db: TestDatabase, n: number, run: (clients: pg.Client[]) => Promise<T>): Promise<T> {
  const clients = Array.from({ length: n }, () => client(db));
  await Promise.all(clients.map((c) => c.connect()));
  try {
    return await run(clients);
  } finally {
    await Promise.all(clients.map((c) => c.end()));
  }
}

/** Claim 500, then delete (or mark) 500, on 4 connections. */
export function rawPostgres(db: TestDatabase, n: number, remove: boolean): Promise<number> {
  return withClients(db, 4, async (clients) => {
    const [first] = clients;
    await first?.query(`CREATE TABLE raw (${ddl})`);
    await first?.query('CREATE INDEX ON raw (kind, rank, id) WHERE status = 0');
    await first?.query(`INSERT INTO raw (kind, context) SELECT 'step', '{"i":' || i || '}' FROM generate_series(1, ${n}) i`);
    await first?.query('ANALYZE raw');
    const started = performance.now();
    await Promise.all(
      clients.map(async (c) => {
        for (;;) {
          const { rows } = await c.query({
            name: 'claim',
            text: `UPDATE raw SET status = 1, version = version + 1, lease_until = 1 WHERE id = ANY(ARRAY(SELECT id FROM raw WHERE status = 0 AND kind = 'step' ORDER BY rank, id LIMIT 500 FOR UPDATE SKIP LOCKED)) RETURNING id, version, context`,
          });
          if (rows.length === 0) return;
          const ids = rows.map((row) => row.id);
          await c.query(
            remove
              ? { name: 'del', text: 'DELETE FROM raw WHERE id = ANY($1::bigint[])', values: [ids] }
              : { name: 'mark', text: 'UPDATE raw SET status = 2 WHERE id = ANY($1::bigint[])', values: [ids] },
          );
        }
      }),
    );
    return n / ((performance.now() - started) / 1000);
  });
}

/** Multi-row inserts of 1,000 by `unnest` into the same table as ours, one connection. */
export async function rawPostgresInsert(db: TestDatabase, n: number): Promise<number> {
  await migrate(db.knex, [coreSchema, compensateBizSchema]);
  return withClients(db, 1, async ([c]) => {
    const started = performance.now();
    for (let from = 0; from < n; from += 1000) {
      const contexts = Array.from({ length: 1000 }, (_, i) => JSON.stringify({ i: from + i }));
      await c?.query({
        name: 'ins',
        text: "INSERT INTO compensate_biz (biz_type, context) SELECT 'step', u FROM unnest($1::text[]) u RETURNING id",
        values: [contexts],
      });
    }
    return n / ((performance.now() - started) / 1000);
  });
}

/** Inserts of one row each into the same table as ours, 24 connections with one insert under way on each. */
export async function rawPostgresInsertOne(db: TestDatabase, n: number): Promise<number> {
  await migrate(db.knex, [coreSchema, compensateBizSchema]);
  return withClients(db, 24, async (clients) => {
    let next = 0;
    const started = performance.now();
    await Promise.all(
      clients.map(async (c) => {
        while (next < n)
          await c.query({
            name: 'ins',
            text: "INSERT INTO compensate_biz (biz_type, context) VALUES ('step', $1) RETURNING id",
            values: [JSON.stringify({ i: next++ })],
          });
      }),
    );
    return n / ((performance.now() - started) / 1000);
  });
}

/** MySQL, MariaDB: claim 500 and mark 500 by id on one connection: their SKIP LOCKED gets slower with connections. */
export async function rawMysql(db: TestDatabase, n: number): Promise<number> {
  const c = await createConnection(db.address);
  try {
    await c.query(
      'CREATE TABLE raw (id BIGINT AUTO_INCREMENT PRIMARY KEY, kind varchar(100) NOT NULL, context longtext, status int NOT NULL DEFAULT 0, version int NOT NULL DEFAULT 0, lease_until bigint, KEY (status, kind, id)) ENGINE=InnoDB',
    );
    for (let from = 0; from < n; from += 1000)
      await c.query('INSERT INTO raw (kind, context) VALUES ?', [
        Array.from({ length: 1000 }, (_, i) => ['step', JSON.stringify({ i: from + i })]),
      ]);
    await c.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    const started = performance.now();
    for (;;) {
      await c.query('BEGIN');
      const [rows] = (await c.query(
        "SELECT id, version, context FROM raw WHERE status = 0 AND kind = 'step' ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED",
      )) as unknown as [{ id: number }[]];
      const ids = rows.map((row) => row.id).join(',');
      if (rows.length > 0) await c.query(`UPDATE raw SET status = 1, version = version + 1, lease_until = 1 WHERE id IN (${ids})`);
      await c.query('COMMIT');
      if (rows.length === 0) break;
      await c.query(`UPDATE raw SET status = 2 WHERE id IN (${ids})`);
    }
    return n / ((performance.now() - started) / 1000);
  } finally {
    await c.end();
  }
}

/** MySQL, MariaDB: multi-row inserts of 1,000 into the same table as ours, one connection; the client writes the values into the text. */
export async function rawMysqlInsert(db: TestDatabase, n: number): Promise<number> {
  await migrate(db.knex, [coreSchema, compensateBizSchema]);
  const c = await createConnection(db.address);
  try {
    const started = performance.now();
    for (let from = 0; from < n; from += 1000)
      await c.query('INSERT INTO compensate_biz (biz_type, context) VALUES ?', [
        Array.from({ length: 1000 }, (_, i) => ['step', JSON.stringify({ i: from + i })]),
      ]);
    return n / ((performance.now() - started) / 1000);
  } finally {
    await c.end();
  }
}

/** Claim 100 and delete 100, prepared, on one connection with `synchronous = NORMAL`. */
export async function rawSqlite(db: TestDatabase, n: number): Promise<number> {
  const { DatabaseSync } = await import('node:sqlite');
  const file = `${new URL(db.address).pathname}.raw`;
  void (db.knex satisfies Knex);
  const raw = new DatabaseSync(file);
  raw.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE raw (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, context TEXT, status INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 0); CREATE INDEX raw_ready ON raw (kind, id) WHERE status = 0',
  );
  raw.exec('BEGIN');
  const insert = raw.prepare("INSERT INTO raw (kind, context) VALUES ('step', ?)");
  for (let i = 0; i < n; i++) insert.run(JSON.stringify({ i }));
  raw.exec('COMMIT');
  const claim = raw.prepare(
    "UPDATE raw SET status = 1, version = version + 1 WHERE id IN (SELECT id FROM raw WHERE status = 0 AND kind = 'step' ORDER BY id LIMIT 100) RETURNING id, version, context",
  );
  const remove = raw.prepare('DELETE FROM raw WHERE id IN (SELECT value FROM json_each(?))');
  const started = performance.now();
  for (;;) {
    const rows = claim.all() as { id: number }[];
    if (rows.length === 0) break;
    remove.run(JSON.stringify(rows.map((row) => row.id)));
  }
  const rate = n / ((performance.now() - started) / 1000);
  raw.close();
  return rate;
}
