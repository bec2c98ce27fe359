import { readFileSync } from 'node:fs';
import { coreSchema, every, InvalidArgumentError, migrate, silentLogger, wait } from '@holdfast/core';
import { recordLog, type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bizType, type CompensateBiz, compensateBizSchema, createCompensateBiz } from '../src/index.ts';
import { any } from './suite-schema.ts';

/** The ten columns as they stand in many a Java service. */
const classicMysql = `CREATE TABLE compensate_biz (
    id bigint NOT NULL AUTO_INCREMENT, biz_id bigint NOT NULL, biz_type varchar(64) NOT NULL, context longtext,
    status varchar(16) NOT NULL DEFAULT 'WAIT_HANDLE', cnt tinyint NOT NULL DEFAULT 0, priority int DEFAULT NULL,
    last_failed_reason text, created_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (id), KEY idx_status (status, biz_type)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`;

const classic = {
  mysql: classicMysql,
  mariadb: classicMysql,
  postgres: `CREATE TABLE compensate_biz (
    id bigserial PRIMARY KEY, biz_id varchar(64) NOT NULL, biz_type varchar(64) NOT NULL, context text,
    status varchar(16) NOT NULL DEFAULT 'WAIT_HANDLE', cnt smallint NOT NULL DEFAULT 0, priority int,
    last_failed_reason text, created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL)`,
  sqlite: `CREATE TABLE compensate_biz (
    id integer PRIMARY KEY AUTOINCREMENT, biz_id text NOT NULL, biz_type text NOT NULL, context text,
    status text NOT NULL DEFAULT 'WAIT_HANDLE', cnt integer NOT NULL DEFAULT 0, priority integer,
    last_failed_reason text, created_at text NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at text NOT NULL DEFAULT CURRENT_TIMESTAMP)`,
};

describe.each(testDialects())('a classic table on $name', (dialect) => {
  let db: TestDatabase;
  let biz: CompensateBiz<never> | undefined;
  beforeEach(async () => {
    db = await dialect.create();
    await db.knex.raw(classic[db.name]);
  });
  afterEach(async () => {
    await biz?.close();
    biz = undefined;
    await db.drop();
  });
  const row = (fields: object) => ({
    biz_id: '7',
    biz_type: 'grant',
    status: 'WAIT_HANDLE',
    cnt: 0,
    context: '{"n":1}',
    updated_at: db.knex.fn.now(),
    ...fields,
  });

  it('is adopted in place, with old code inserting rows and setting statuses all the while', async () => {
    const old = db.connect();
    await db
      .knex('compensate_biz')
      .insert([
        ...Array.from({ length: 50 }, () => row({ cnt: 0 })),
        row({ status: 'SUCCESS', cnt: 3, biz_type: 'ended' }),
        row({ status: 'FAILED', cnt: 100, last_failed_reason: 'java.lang.NullPointerException', biz_type: 'ended' }),
        row({ status: 'PROCESSING', biz_type: 'left' }),
        row({ biz_type: 'not-ours' }),
      ]);
    // The old service: inserts with its ten columns, and works on rows of its own by bare status updates.
    let stop = false;
    let inserted = 50;
    let worked = 0;
    const writing = (async () => {
      while (!stop) {
        await old('compensate_biz').insert(row({}));
        inserted += 1;
        await old('compensate_biz').insert(row({ biz_type: 'old-job' }));
        const [mine] = await old('compensate_biz').where({ biz_type: 'old-job', status: 'WAIT_HANDLE' }).limit(1);
        if (mine) {
          await old('compensate_biz').where({ id: mine.id, status: 'WAIT_HANDLE' }).update({ status: 'PROCESSING' });
          await old('compensate_biz').where({ id: mine.id }).update({ status: 'SUCCESS' });
          worked += 1;
        }
        await wait(2);
      }
    })();
    await wait(50);
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const seen: string[] = [];
    const registry = createCompensateBiz({
      knex: db.knex,
      logger: silentLogger,
      types: { grant: bizType(any), left: bizType(any), ended: bizType(any) },
    });
    biz = registry as unknown as CompensateBiz<never>;
    registry.handle('grant', (context, run) => {
      expect(context).toEqual({ n: 1 });
      seen.push(run.id);
    });
    registry.handle('left', () => undefined);
    registry.handle('ended', () => {
      throw new Error('must not run');
    });
    await using worker = registry.worker({ adoptIdleFor: '1s', lease: '1s' });
    await worker.start();
    await wait(500);
    stop = true;
    await writing;
    const count = async (where: object) => Number((await db.knex('compensate_biz').where(where).count({ n: '*' }))[0]?.n);
    await until(async () => (await count({ biz_type: 'grant', status: 'SUCCESS' })) === inserted);
    expect(new Set(seen).size).toBe(inserted);
    await until(async () => (await count({ biz_type: 'left', status: 'SUCCESS' })) === 1);
    expect(worked).toBeGreaterThan(10);
    expect(await count({ biz_type: 'old-job', status: 'SUCCESS' })).toBe(worked);
    expect(await count({ biz_type: 'not-ours', status: 'WAIT_HANDLE' })).toBe(1);
    expect(
      await db.knex('compensate_biz').where({ biz_type: 'ended' }).orderBy('id').select('status', 'cnt', 'last_failed_reason'),
    ).toEqual([
      { status: 'SUCCESS', cnt: 3, last_failed_reason: null },
      { status: 'FAILED', cnt: 100, last_failed_reason: 'java.lang.NullPointerException' },
    ]);
  });

  it('keeps the rows that old code has ended, and says so, unless the type is given a retention', async () => {
    const old = '2020-01-01 00:00:00';
    const many = (fields: object, count: number) => Array.from({ length: count }, () => row({ updated_at: old, ...fields }));
    const insert = (rows: object[]) => db.knex.batchInsert('compensate_biz', rows as Record<string, unknown>[], 50);
    await insert([...many({ status: 'SUCCESS' }, 2_500), ...many({ status: 'FAILED' }, 20), ...many({ status: 'CANCELLED' }, 10)]);
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    // As a worker leaves them.
    await insert([
      ...many({ status: 'SUCCESS', starts: 1, version: 1 }, 1_200),
      ...many({ status: 'FAILED', starts: 2, version: 2 }, 3),
      ...many({ status: 'CANCELLED', starts: 0, version: 1 }, 2),
    ]);
    const rows = async () => {
      const counts = await db
        .knex<{ status: string }>('compensate_biz')
        .groupBy('status')
        .orderBy('status')
        .select('status')
        .count({ n: '*' });
      return counts.map((count) => [(count as { status?: string }).status, Number(count.n)]);
    };
    const log = recordLog();
    const create = (options: object) => createCompensateBiz({ knex: db.knex, logger: log, types: { grant: bizType(any, options) } });
    const first = create({});
    first.handle('grant', () => undefined);
    const worker = first.worker();
    await worker.start();
    await until(() => log.at('info', 'sweep ends').length === 1);
    await first.close();
    const left = [
      ['CANCELLED', 10],
      ['FAILED', 20],
      ['SUCCESS', 2_500],
    ];
    expect(await rows()).toEqual(left);
    expect(log.at('warn', 'are left')).toMatchObject([{ fields: { rows: ['grant SUCCESS', 'grant FAILED', 'grant CANCELLED'] } }]);
    const kept = create({ keep: 'all', keepFailed: 'all' });
    await kept.sweep();
    await kept.close();
    expect(await rows()).toEqual(left);
    const asked = create({ keep: '1d', keepFailed: '1d' });
    asked.handle('grant', () => undefined);
    await asked.worker().start();
    await until(async () => (await rows()).length === 0);
    await asked.close();
    expect(log.at('warn', 'the sweep deletes those')).toMatchObject([
      { fields: { rows: ['grant SUCCESS', 'grant FAILED', 'grant CANCELLED'] } },
    ]);
  });

  it('counts past what a tinyint holds, and is claimed whatever its priority says', async () => {
    await db.knex('compensate_biz').insert([row({ cnt: 127, priority: null }), row({ cnt: 127, priority: 3 })]);
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const registry = createCompensateBiz({
      knex: db.knex,
      logger: silentLogger,
      types: { grant: bizType(any, { retry: every(1).upTo(1000) }) },
    });
    biz = registry as unknown as CompensateBiz<never>;
    let runs = 0;
    registry.handle('grant', (_context, run) => {
      if (++runs <= 2) return run.retry({ after: 1, reason: 'once more' });
    });
    await using worker = registry.worker();
    await worker.start();
    await until(async () => (await db.knex('compensate_biz').where({ status: 'SUCCESS' })).length === 2);
    expect((await db.knex('compensate_biz').select('cnt')).map(({ cnt }) => Number(cnt))).toEqual([128, 128]);
  });

  it('ranks what is submitted by its priority, and gives it the status and priority that were asked for', async () => {
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    if (db.name !== 'sqlite') {
      await db.knex.raw("ALTER TABLE compensate_biz ALTER COLUMN status SET DEFAULT 'INIT'");
      await db.knex.raw('ALTER TABLE compensate_biz ALTER COLUMN priority SET DEFAULT 7');
    }
    const registry = createCompensateBiz({ knex: db.knex, logger: silentLogger, types: { grant: bizType(any) } });
    biz = registry as unknown as CompensateBiz<never>;
    await registry.now().submit('grant', { n: 1 }, { bizId: '1' });
    await registry.now().submit('grant', { n: 2 }, { bizId: '2', priority: 1_000 });
    const rows = await db.knex('compensate_biz').orderBy('id').select('status', 'priority', 'claim_rank');
    expect(rows.map(({ status, priority }) => [status, Number(priority)])).toEqual([
      ['WAIT_HANDLE', 0],
      ['WAIT_HANDLE', 1_000],
    ]);
    expect(Number(rows[1].claim_rank)).toBeLessThan(Number(rows[0].claim_rank));
    expect(Number(rows[0].claim_rank)).toBeGreaterThan(1_700_000_000_000);
  });

  it('leaves a status that old code set while a run was under way, and says that the run was refused', async () => {
    await db.knex('compensate_biz').insert(row({}));
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const registry = createCompensateBiz({ knex: db.knex, logger: silentLogger, types: { grant: bizType(any) } });
    biz = registry as unknown as CompensateBiz<never>;
    let refused = 0;
    registry.events.on('task:lease-lost', () => {
      refused += 1;
    });
    registry.handle('grant', async () => {
      // By hand, as operators do.
      await db.connect()('compensate_biz').update({ status: 'FAILED' });
    });
    await using worker = registry.worker();
    await worker.start();
    await until(() => refused === 1);
    expect(await db.knex('compensate_biz').select('status')).toEqual([{ status: 'FAILED' }]);
  });

  it('is as it was, rows and all, after the statements of the page about uninstalling', async () => {
    const columns = async () => Object.keys(await db.knex('compensate_biz').columnInfo()).sort();
    const before = await columns();
    await db.knex('compensate_biz').insert(row({ context: '{"n":2}' }));
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const page = readFileSync(new URL('../../../docs/operate/uninstall.md', import.meta.url), 'utf8');
    const sql = [/```sql\n(DROP TABLE compensate_biz_attempt[\s\S]*?)```/, /```text\n(ALTER TABLE[\s\S]*?)```/]
      .map((block) => block.exec(page)?.[1])
      .join('\n');
    for (const statement of sql
      .replaceAll(/--.*/g, '')
      .split(';')
      .filter((text) => text.trim() !== '')) {
      const alter = /ALTER TABLE compensate_biz\s/.test(statement);
      if (!alter || db.name === 'mysql' || db.name === 'mariadb') await db.knex.raw(statement);
      else {
        for (const name of [
          'ready',
          'suspect',
          'lease',
          'due',
          'gate',
          'failed',
          'child',
          'biz_id',
          'subject',
          'tenant',
          'done',
          'cancelled',
        ])
          await db.knex.raw(`DROP INDEX compensate_biz_${name}`);
        for (const [change] of statement.matchAll(/DROP COLUMN (?!ended_status|due_at)\w+/g))
          await db.knex.raw(`ALTER TABLE compensate_biz ${change}`);
      }
    }
    expect(await columns()).toEqual(before);
    expect(await db.knex('compensate_biz').select('biz_type', 'status', 'context')).toEqual([
      { biz_type: 'grant', status: 'WAIT_HANDLE', context: '{"n":2}' },
    ]);
    // And may come back.
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    expect(await columns()).toContain('claim_rank');
  });

  it('is widened where a failure, a count or a status would not fit', async () => {
    if (db.name === 'mysql' || db.name === 'mariadb')
      await db.knex.raw(
        "ALTER TABLE compensate_biz MODIFY last_failed_reason VARCHAR(100) NULL, MODIFY status ENUM('WAIT_HANDLE', 'PROCESSING', 'SUCCESS', 'FAILED') NOT NULL DEFAULT 'WAIT_HANDLE', MODIFY context JSON",
      );
    if (db.name === 'postgres') await db.knex.raw('ALTER TABLE compensate_biz ALTER COLUMN last_failed_reason TYPE VARCHAR(100)');
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const types = { long: bizType(any, { retry: every('10ms').upTo(2) }), grant: bizType(any) };
    const own = createCompensateBiz({ knex: db.knex, logger: silentLogger, types });
    const seen: unknown[] = [];
    own.handle('long', () => {
      throw new Error('x'.repeat(730));
    });
    own.handle('grant', (context) => void seen.push(context));
    await db.knex('compensate_biz').insert([row({ biz_type: 'long' }), row({ context: '{"n":2}' })]);
    await own.worker().start();
    await until(async () => (await db.knex('compensate_biz').whereIn('status', ['SUCCESS', 'FAILED'])).length === 2);
    await own.close();
    expect(seen).toEqual([{ n: 2 }]);
    const failed = await db.knex('compensate_biz').where({ biz_type: 'long' }).first();
    expect(failed).toMatchObject({ status: 'FAILED', cnt: 2, dead_reason: 'exhausted' });
    expect(failed.last_failed_reason).toContain('x'.repeat(730));
  });

  it.each([
    ['tenant', 'VARCHAR(32)', /its column tenant may be NULL, and a row with NULL would never run\. Run UPDATE .* SET tenant = '' WHERE/],
    ['version', 'VARCHAR(10)', /its column version is .*, and Holdfast counts in it\. Run ALTER TABLE .* RENAME COLUMN version/],
  ])('is refused with the statement to run where its column %s does not fit', async (name, type, message) => {
    await db.knex.raw(`ALTER TABLE compensate_biz ADD COLUMN ${name} ${type}`);
    const refused = await migrate(db.knex, [coreSchema, compensateBizSchema]).catch((error: Error) => error);
    expect((refused as Error).message).toMatch(message);
    const statements = /Run (.*); then migrate again/.exec((refused as Error).message)?.[1] ?? '';
    if (db.name === 'sqlite' && name === 'tenant') return; // SQLite can't change a column: the table is made anew by hand.
    for (const statement of statements.split('; ')) await db.knex.raw(statement);
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
  });

  it.each(['bigint', 'uuid'])(
    'is refused with the statement to run where PostgreSQL would refuse the bizId of each submit: %s',
    async (type) => {
      if (db.name !== 'postgres') return;
      await db.knex.raw(`ALTER TABLE compensate_biz ALTER COLUMN biz_id TYPE ${type} USING NULL`);
      const refused = await migrate(db.knex, [coreSchema, compensateBizSchema]).catch((error: Error) => error);
      const statement = new RegExp(
        `its column biz_id is ${type.toUpperCase()}, and Holdfast writes text\\. Run (.*); then migrate again`,
      ).exec((refused as Error).message)?.[1];
      await db.knex.raw(String(statement));
      await migrate(db.knex, [coreSchema, compensateBizSchema]);
      const registry = createCompensateBiz({ knex: db.knex, logger: silentLogger, types: { grant: bizType(any) } });
      biz = registry as unknown as CompensateBiz<never>;
      await registry.now().submit('grant', {}, { bizId: 7 });
      expect(await registry.find({ bizId: 7 })).toHaveLength(1);
    },
  );

  it.each(['ENUM', 'CHAR'])('is refused with the statement to run where PostgreSQL would refuse a status of ours: %s', async (kind) => {
    if (db.name !== 'postgres') return;
    await db.knex.raw("CREATE TYPE biz_status AS ENUM ('WAIT_HANDLE', 'PROCESSING', 'SUCCESS', 'FAILED')");
    const type = kind === 'ENUM' ? 'biz_status' : 'CHAR(20)';
    await db.knex.raw(
      `ALTER TABLE compensate_biz ALTER COLUMN status DROP DEFAULT, ALTER COLUMN status TYPE ${type} USING status::${type}, ALTER COLUMN status SET DEFAULT 'WAIT_HANDLE'`,
    );
    await db.knex('compensate_biz').insert(row({}));
    const refused = await migrate(db.knex, [coreSchema, compensateBizSchema]).catch((error: Error) => error);
    const statement = /its column status is an? (?:ENUM|CHAR), .*\. Run (.*); then migrate again/.exec((refused as Error).message)?.[1];
    await db.knex.raw(String(statement));
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    expect(await db.knex('compensate_biz').where({ status: 'WAIT_HANDLE' })).toHaveLength(1);
  });

  it('refuses what a column does not hold, with the statement that widens it, and takes it afterwards', async () => {
    if (db.name === 'sqlite') return; // Its columns have no width.
    const mysql = db.name !== 'postgres';
    const columns = [
      'biz_id VARCHAR(64)',
      'biz_type VARCHAR(10)',
      'priority SMALLINT',
      ...(mysql ? ['context TEXT'] : ['context VARCHAR(50000)']),
    ];
    const change = (column: string) => (mysql ? `MODIFY ${column}` : `ALTER COLUMN ${column.replace(' ', ' TYPE ')}`);
    await db.knex.raw(`ALTER TABLE compensate_biz ${columns.map(change).join(', ')}`);
    if (mysql) await db.knex.raw('ALTER TABLE compensate_biz MODIFY biz_id VARCHAR(64) NOT NULL');
    else await db.knex.raw('ALTER TABLE compensate_biz ALTER COLUMN biz_id SET NOT NULL');
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const long = 'grant-a-coupon';
    const types = { grant: bizType(any), [long]: bizType(any) };
    const own = createCompensateBiz({ knex: db.knex, logger: silentLogger, types });
    biz = own as unknown as CompensateBiz<never>;
    const rows = async () => Number((await db.knex('compensate_biz').count({ n: '*' }))[0]?.n);
    const text = '\u00e9'.repeat(64);
    const misfits = [
      ['grant', {}, { bizId: `${text}x` }, /column biz_id of compensate_biz is .*\(64\).* and bizId has 65 characters\. /],
      ['grant', {}, {}, /column biz_id .* NOT NULL, and bizId is missing\. /],
      [long, {}, { bizId: 1 }, /column biz_type .*\(10\), and the name of the type has 14 characters\. /],
      ['grant', {}, { bizId: 2, priority: 40_000 }, /column priority .*SMALLINT.*, and priority is 40000\. /],
      ['grant', { x: 'y'.repeat(70_000) }, { bizId: 3 }, /column context .*, and context has 70,008 (bytes|characters)\. /],
    ] as const;
    const widen: string[] = [];
    for (const [type, context, options, message] of misfits) {
      const submits = [
        () => own.now().submit(type, context, options),
        () => own.now().submitMany(type, [context], options),
        () => db.knex.transaction((trx) => own.in(trx).submit(type, context, options)),
      ];
      for (const submit of submits) {
        const refused = await submit().catch((error: Error) => error);
        expect(refused).toBeInstanceOf(InvalidArgumentError);
        expect((refused as Error).message).toMatch(message);
        widen.push(/Give what fits\. Otherwise, run (.*)\. See /.exec((refused as Error).message)?.[1] ?? '');
      }
    }
    // One that does not fit fails none of those that are submitted with it.
    const [refused, taken] = await Promise.allSettled([
      own.now().submit('grant', {}, { bizId: `${text}x` }),
      own.now().submit('grant', {}, { bizId: text }),
    ]);
    expect([refused.status, taken.status, await rows()]).toEqual(['rejected', 'fulfilled', 1]);
    for (const statement of new Set(widen)) await db.knex.raw(statement);
    for (const [type, context, options] of misfits) await own.now().submit(type, context, options);
    expect(await rows()).toBe(1 + misfits.length);
  });

  it('takes as bizId the whole numbers that a column of numbers holds, and refuses any other', async () => {
    if (db.name !== 'mysql' && db.name !== 'mariadb') return;
    await db.knex.raw('ALTER TABLE compensate_biz MODIFY biz_id INT UNSIGNED NULL');
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
    const own = createCompensateBiz({ knex: db.knex, logger: silentLogger, types: { grant: bizType(any) } });
    biz = own as unknown as CompensateBiz<never>;
    for (const bizId of ['order-7', '7.5', -1, 4_294_967_296])
      await expect(own.now().submit('grant', {}, { bizId })).rejects.toThrow(
        /column biz_id of compensate_biz is INT.*UNSIGNED, and bizId is "/,
      );
    for (const bizId of ['7', 4_294_967_295]) await own.now().submit('grant', {}, { bizId });
  });

  it('is refused with the statement to run where a classic column is missing', async () => {
    await db.knex.raw('ALTER TABLE compensate_biz DROP COLUMN priority');
    const refused = await migrate(db.knex, [coreSchema, compensateBizSchema]).catch((error: Error) => error);
    const statement = /its column priority is missing\. Run (.*); then migrate again/.exec((refused as Error).message)?.[1];
    await db.knex.raw(String(statement));
    await migrate(db.knex, [coreSchema, compensateBizSchema]);
  });
});
