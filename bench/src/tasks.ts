import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { coupons } from './coupons.ts';
import { inFlight } from './in-flight.ts';
import { latency } from './latency.ts';
import { drain, ours } from './ours.ts';
import { graphileDrain, graphileSubmit, pgBossDrain } from './postgres-peers.ts';
import { rawMysql, rawMysqlInsert, rawPostgres, rawPostgresInsert, rawPostgresInsertOne, rawSqlite } from './raw.ts';
import { rounds } from './report/report.ts';
import { plainjobDrain } from './sqlite-peers.ts';

export interface BenchOptions {
  readonly json: boolean;
  readonly rounds: number;
  readonly only: ReadonlySet<string> | undefined;
  /** Members of the coupons campaign. */
  readonly members: number;
  /** Messages in the backlog of the outbox. */
  readonly backlog: number;
  /** How long each contestant of a flow runs. */
  readonly minutes: number;
  /** The contestants of a flow to run. Default: all. */
  readonly contestants?: ReadonlySet<string> | undefined;
}

/** Claim, run and settle; submit; latency; a campaign: against peers, and against the same SQL without our code. */
export async function tasks(options: BenchOptions): Promise<void> {
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  const database = (name: TestDatabase['name']) => {
    const dialect = testDialects().find((candidate) => candidate.name === name);
    if (!dialect) throw new Error(`${name} is not up; run npm run services:up and set its address, or npm run bench through it`);
    return dialect;
  };
  const on = async (name: TestDatabase['name'], run: (db: TestDatabase) => Promise<number>): Promise<number> => {
    const db = await database(name).create();
    try {
      return await run(db);
    } finally {
      await db.drop();
    }
  };
  const ourDrain = (name: TestDatabase['name'], n: number, keep: 'all' | 'none') => () =>
    on(name, async (db) => {
      const biz = await ours(db.knex, { keep });
      await seed(biz, n);
      if (name === 'postgres') await db.knex.raw('ANALYZE compensate_biz');
      const rate = await drain(biz, n);
      await biz.close();
      return rate;
    });
  if (wanted('tasks/postgres')) {
    const n = 100_000;
    await rounds(
      'tasks/postgres',
      'tasks/s',
      options.rounds,
      {
        ours: ourDrain('postgres', n, 'none'),
        raw: () => on('postgres', (db) => rawPostgres(db, n, true)),
        'graphile-worker, queue 500': () => on('postgres', (db) => graphileDrain(db, n, 500)),
        'graphile-worker, queue 1000': () => on('postgres', (db) => graphileDrain(db, n, 1000)),
        'pg-boss, 500 x 4': () => on('postgres', (db) => pgBossDrain(db, n)),
      },
      options.json,
    );
  }
  if (wanted('tasks-kept/postgres')) {
    const n = 100_000;
    await rounds(
      'tasks-kept/postgres',
      'tasks/s',
      options.rounds,
      {
        ours: ourDrain('postgres', n, 'all'),
        raw: () => on('postgres', (db) => rawPostgres(db, n, false)),
        'pg-boss, 500 x 4': () => on('postgres', (db) => pgBossDrain(db, n)),
      },
      options.json,
    );
  }
  if (wanted('tasks/sqlite')) {
    const n = 100_000;
    await rounds(
      'tasks/sqlite',
      'tasks/s',
      options.rounds,
      {
        ours: ourDrain('sqlite', n, 'none'),
        raw: () => on('sqlite', (db) => rawSqlite(db, n)),
        plainjob: () => plainjobDrain(20_000),
      },
      options.json,
    );
  }
  for (const name of ['mysql', 'mariadb'] as const)
    if (wanted(`tasks/${name}`)) {
      const n = 40_000;
      await rounds(
        `tasks/${name}`,
        'tasks/s',
        options.rounds,
        { ours: ourDrain(name, n, 'all'), raw: () => on(name, (db) => rawMysql(db, n)) },
        options.json,
      );
    }
  if (wanted('submit-one/postgres')) {
    const n = 20_000;
    await rounds(
      'submit-one/postgres',
      'submits/s',
      options.rounds,
      {
        ours: () =>
          on('postgres', async (db) => {
            const biz = await ours(db.knex, { keep: 'none' });
            const rate = await inFlight(24, n, (i) => biz.now().submit('step', { i }));
            await biz.close();
            return rate;
          }),
        raw: () => on('postgres', (db) => rawPostgresInsertOne(db, n)),
        'graphile-worker addJob': () => on('postgres', (db) => graphileSubmit(db, 4_000, 1)),
      },
      options.json,
    );
  }
  const ourSubmits = (name: TestDatabase['name'], n: number) => () =>
    on(name, async (db) => {
      const biz = await ours(db.knex, { keep: 'none' });
      const started = performance.now();
      await seed(biz, n);
      const rate = n / ((performance.now() - started) / 1000);
      await biz.close();
      return rate;
    });
  if (wanted('submit-many/postgres')) {
    const n = 200_000;
    await rounds(
      'submit-many/postgres',
      'submits/s',
      options.rounds,
      {
        ours: ourSubmits('postgres', n),
        raw: () => on('postgres', (db) => rawPostgresInsert(db, n)),
        'graphile-worker addJobs': () => on('postgres', (db) => graphileSubmit(db, n, 1000)),
      },
      options.json,
    );
  }
  for (const name of ['mysql', 'mariadb'] as const)
    if (wanted(`submit-many/${name}`)) {
      const n = 100_000;
      await rounds(
        `submit-many/${name}`,
        'submits/s',
        options.rounds,
        { ours: ourSubmits(name, n), raw: () => on(name, (db) => rawMysqlInsert(db, n)) },
        options.json,
      );
    }
  if (wanted('latency/postgres')) await on('postgres', (db) => latency(db, options.json));
  for (const name of ['postgres', 'mysql'] as const)
    if (wanted(`coupons/${name}`)) await on(name, (db) => coupons(db, options.members, options.json));
}

async function seed(biz: Awaited<ReturnType<typeof ours>>, n: number): Promise<void> {
  for (let from = 0; from < n; from += 1000) {
    await biz.now().submitMany(
      'step',
      Array.from({ length: Math.min(1000, n - from) }, (_, i) => ({ i: from + i })),
    );
  }
}
