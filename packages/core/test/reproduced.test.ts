// Failures of the obvious implementations, each reproduced beside the implementation that was chosen.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { nowSql } from '../src/database/clock.ts';
import { type ClaimedRow, dataVersionWaker, migrate, type SqlRunner, WorkTable, workColumns } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

const states = {
  ready: 'READY',
  scheduled: 'SCHEDULED',
  blocked: 'BLOCKED',
  running: 'RUNNING',
  done: 'DONE',
  dead: 'DEAD',
  cancelled: 'CANCELLED',
} as const;

onEveryDatabase(
  'plans',
  (suite) => {
    const plan = async (statement: string): Promise<string> =>
      JSON.stringify((await suite.db.knex.raw(`EXPLAIN (FORMAT JSON) ${suite.database.sql(statement)}`)).rows[0]['QUERY PLAN']);

    it("makes the clock an index condition, which a volatile call isn't", async () => {
      await suite.db.knex.raw('CREATE TABLE due (id BIGSERIAL PRIMARY KEY, run_at BIGINT NOT NULL)');
      await suite.db.knex.raw('INSERT INTO due (run_at) SELECT 9000000000000 + i FROM generate_series(1, 100000) i');
      await suite.db.knex.raw('CREATE INDEX due_run_at ON due (run_at)');
      await suite.db.knex.raw('ANALYZE due');
      const query = (now: string) => `SELECT id FROM due WHERE run_at <= ${now} ORDER BY run_at LIMIT 10`;
      expect(await plan(query(nowSql('postgres', 0)))).toContain('"Index Cond":"(run_at <=');
      expect(await plan(query('(extract(epoch FROM clock_timestamp()) * 1000)::bigint'))).toContain('"Filter":"(run_at <=');
    });

    it('settles by the primary key, although the statistics say that no row is RUNNING', async () => {
      const claim = workColumns(suite.database).map((column) => `${column.name} ${column.type}`);
      await suite.db.knex.raw(
        `CREATE TABLE planned (id BIGSERIAL PRIMARY KEY, kind VARCHAR(20) NOT NULL, grp VARCHAR(20) NOT NULL DEFAULT '', status VARCHAR(12) NOT NULL DEFAULT 'READY', attempts INTEGER NOT NULL DEFAULT 0, priority INTEGER NULL, error TEXT NULL, updated_at TIMESTAMPTZ DEFAULT now(), ${claim.join(', ')})`,
      );
      await suite.db.knex.raw(
        "CREATE INDEX planned_ready ON planned (kind, grp, claim_rank, id) WHERE status = 'READY' AND lost = 0; CREATE INDEX planned_lease ON planned (lease_until) WHERE status = 'RUNNING'",
      );
      await suite.db.knex.raw("INSERT INTO planned (kind) SELECT 'k' FROM generate_series(1, 20000)");
      await suite.db.knex.raw('ANALYZE planned');
      const table = new WorkTable(suite.database, {
        table: 'planned',
        attemptTable: 'planned_attempt',
        columns: { kind: 'kind', group: 'grp', attempts: 'attempts', error: 'error' },
        payload: {},
        states,
        agingStepMs: 1000,
      });
      const rows: ClaimedRow[] = [];
      for (let i = 0; i < 8; i++) rows.push(...(await table.claim({ kind: 'k', group: '', limit: 1000, owner: 'o', leaseMs: 60_000 })));
      const plans: string[] = [];
      const explained = (sql: SqlRunner): SqlRunner => ({
        ...sql,
        rows: async <Row>(statement: string, params?: readonly unknown[]) => {
          plans.push(JSON.stringify(await sql.rows(`EXPLAIN (FORMAT JSON) ${statement}`, params)));
          return sql.rows<Row>(statement, params);
        },
      });
      for (const keep of [true, false]) {
        const some = rows.splice(0, 1000);
        await suite.database.transaction(async (sql) => {
          const settled = await table.settleIn(
            explained(sql),
            some.map((row) => ({ row, verdict: { outcome: 'done' }, keep })),
          );
          expect(settled.size).toBe(1000);
        });
      }
      expect(plans).toHaveLength(2);
      for (const text of plans) {
        expect(text).toContain('planned_pkey');
        expect(text).not.toContain('planned_lease');
      }
      // Negative control: the status as a plain condition.
      const naive = await plan(
        "UPDATE planned SET status = 'DONE' WHERE id IN (SELECT unnest(ARRAY[1, 2, 3]::bigint[])) AND version = 1 AND status = 'RUNNING'",
      );
      expect(naive).toContain('planned_lease');
    });
  },
  ['postgres'],
);

onEveryDatabase(
  'isolation',
  (suite) => {
    const repeatable = { isolationLevel: 'repeatable read' } as const;

    it('never blocks unrelated inserts while it promotes, as REPEATABLE READ does', async () => {
      const { knex } = suite.db;
      await knex.raw(
        'CREATE TABLE gap (id BIGINT AUTO_INCREMENT PRIMARY KEY, status VARCHAR(12) NOT NULL, run_at BIGINT NOT NULL, KEY (status, run_at))',
      );
      await knex('gap').insert(Array.from({ length: 10 }, (_, i) => ({ status: 'SCHEDULED', run_at: i * 10 })));
      const promote = "UPDATE gap SET status = 'READY' WHERE status = 'SCHEDULED' AND run_at <= 55";
      const insert = async () => {
        const one = suite.db.connect();
        await one.raw('SET SESSION innodb_lock_wait_timeout = 1');
        await one('gap').insert({ status: 'SCHEDULED', run_at: 33 });
      };
      await suite.database.transaction(async (sql) => {
        await sql.run(promote);
        await insert();
      });
      await knex.transaction(async (trx) => {
        await trx.raw(promote);
        await expect(insert()).rejects.toMatchObject({ errno: 1205 });
      }, repeatable);
    });
  },
  ['mariadb', 'mysql'],
);

onEveryDatabase(
  'a snapshot that refuses what changed since',
  (suite) => {
    it('settles in a transaction whose rows were renewed meanwhile, which a snapshot refuses for ever', async () => {
      const { knex } = suite.db;
      await knex.raw('CREATE TABLE renewed (id BIGINT PRIMARY KEY, lease_until BIGINT NOT NULL)');
      await knex('renewed').insert({ id: 1, lease_until: 0 });
      const settle = (isolationLevel: 'read committed' | 'repeatable read') =>
        knex.transaction(
          async (trx) => {
            await trx.raw('SET SESSION innodb_snapshot_isolation = ON');
            await trx('renewed').select();
            await suite.database.run('UPDATE renewed SET lease_until = lease_until + 1');
            await trx('renewed').update({ lease_until: -1 });
          },
          { isolationLevel },
        );
      await settle('read committed');
      await expect(settle('repeatable read')).rejects.toMatchObject({ errno: 1020 });
    });
  },
  ['mariadb'],
);

/** A second process that holds the write lock of a SQLite file for a while. */
const holder = `
  const { DatabaseSync } = require('node:sqlite');
  const db = new DatabaseSync(process.argv[1]);
  db.exec('BEGIN IMMEDIATE');
  db.exec("INSERT INTO shared (n) VALUES (1)");
  console.log('holding');
  setTimeout(() => { db.exec('COMMIT'); db.close(); }, Number(process.argv[2]));
`;

onEveryDatabase(
  'a SQLite file that two processes write',
  (suite) => {
    const hold = async (ms: number) => {
      const child = spawn(process.execPath, [
        '--disable-warning=ExperimentalWarning',
        '-e',
        holder,
        new URL(suite.db.address).pathname,
        String(ms),
      ]);
      await once(child.stdout, 'data');
      return { exit: once(child, 'exit') };
    };

    it('waits for the lock without blocking the event loop', async () => {
      await suite.db.knex.raw('CREATE TABLE shared (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL)');
      const released = await hold(400);
      let ticks = 0;
      const timer = setInterval(() => {
        ticks += 1;
      }, 10);
      const writes = [
        suite.database.run('INSERT INTO shared (n) VALUES (2)'),
        suite.db.knex('shared').insert({ n: 3 }),
        suite.database.transaction((sql) => sql.run('INSERT INTO shared (n) VALUES (4)')),
        suite.db.knex.transaction((trx) => trx('shared').insert({ n: 5 })),
      ];
      await Promise.all(writes);
      clearInterval(timer);
      expect(ticks).toBeGreaterThan(10);
      expect((await suite.db.knex('shared')).length).toBe(5);
      expect(await released.exit).toEqual([0, null]);
    });

    it('takes the write lock when a transaction begins: one that reads first and then writes would fail at once', async () => {
      const { DatabaseSync } = await import('node:sqlite');
      const file = new URL(suite.db.address).pathname;
      const [a, b] = [new DatabaseSync(file, { timeout: 5_000 }), new DatabaseSync(file, { timeout: 5_000 })];
      a.exec('BEGIN');
      a.prepare('SELECT count(*) FROM shared').all();
      b.exec('INSERT INTO shared (n) VALUES (6)');
      const started = performance.now();
      expect(() => a.exec('INSERT INTO shared (n) VALUES (7)')).toThrow(/locked/);
      expect(performance.now() - started).toBeLessThan(1_000);
      a.exec('ROLLBACK');
      a.close();
      b.close();
      // The same with our own code, from the pools of two processes.
      const other = suite.db.connect();
      const bump = (knex: typeof other) =>
        knex.transaction(async (trx) => {
          const [row] = await trx('shared').max({ n: 'n' });
          await wait(5);
          await trx('shared').insert({ n: Number(row?.n) + 1 });
        });
      await Promise.all(Array.from({ length: 20 }, (_, i) => bump(i % 2 === 0 ? other : suite.db.knex)));
      const values = (await suite.db.knex('shared').where('n', '>', 6)).map((row) => row.n);
      expect(new Set(values).size).toBe(20);
    });

    it('detects a commit of another process', async () => {
      const waker = dataVersionWaker(suite.database, 5);
      let woken = 0;
      waker.listen('any', () => {
        woken += 1;
      });
      await until(() => waker.reliable);
      await suite.db.knex('shared').insert({ n: 100 });
      await wait(50);
      expect(woken).toBe(0);
      await suite.db.connect()('shared').insert({ n: 101 });
      await until(() => woken > 0);
      await waker.close();
    });

    it('never gives an id out again, as a plain primary key does after the table was emptied', async () => {
      const { knex } = suite.db;
      await knex.raw('CREATE TABLE plain (id INTEGER PRIMARY KEY, n INTEGER)');
      for (const table of ['plain', 'shared']) {
        const [first] = await knex(table).insert({ n: 200 }).returning('id');
        await knex(table).delete();
        const [second] = await knex(table).insert({ n: 201 }).returning('id');
        if (table === 'plain') expect(second.id).toBeLessThanOrEqual(first.id);
        else expect(second.id).toBeGreaterThan(first.id);
      }
    });
  },
  ['sqlite'],
);

onEveryDatabase('migrating', (suite) => {
  it('keeps a lock of its own while it migrates, for as long as it takes', async () => {
    const slow = {
      name: 'slow',
      migrations: [
        {
          name: '0001',
          statements: async () => {
            await wait(1_500);
            return ['CREATE TABLE slow_table (id INTEGER PRIMARY KEY)'];
          },
        },
      ],
    };
    const both = await Promise.all([migrate(suite.db.knex, [slow]), migrate(suite.db.connect(), [slow])]);
    expect(both.map((done) => done.slow?.length).sort()).toEqual([0, 1]);
  });
});
