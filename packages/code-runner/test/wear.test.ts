import { silentLogger } from '@holdfast/core';
import { recordPlans, recordStatements, tablesRead } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { createCodeRunner, databaseFiles, python } from '../src/index.ts';
import { purgeRuns } from '../src/runs/purge-runs.ts';
import { BlobTable } from '../src/store/blob-table.ts';
import { Blobs } from '../src/store/blobs.ts';
import { sweepBlobs } from '../src/store/sweep-blobs.ts';
import { alice, onEveryDatabase, submit } from './suite.ts';

const day = 86_400_000;

onEveryDatabase('runs that ended long ago', (suite) => {
  it('are deleted with their events, and so are removed tasks without runs', async () => {
    const { knex } = suite.db;
    const runner = suite.runner();
    const [old, young, unpacked, live] = [
      await submit(runner, 'print(1)'),
      await submit(runner, 'print(2)'),
      await submit(runner, 'print(3)'),
      await submit(runner, 'print(4)'),
    ];
    for (const { id } of [old, young, unpacked])
      await knex('runner_run').where({ id }).update({ phase: 'terminal', state: 3, active_key: null });
    await knex('runner_run').where({ id: young.id }).update({ ended_at: Date.now(), log_packed: 1 });
    await knex('runner_run')
      .where({ id: old.id })
      .update({ ended_at: Date.now() - 2 * day, log_packed: 1 });
    await knex('runner_run')
      .where({ id: unpacked.id })
      .update({ ended_at: Date.now() - 2 * day });
    for (const { taskId } of [old, young]) await runner.tasks.remove(taskId, alice);
    await knex('runner_task')
      .whereNotNull('removed_at')
      .update({ removed_at: Date.now() - 2 * day });
    const purge = (ms: number) => purgeRuns(runner.database, databaseFiles()(runner.database), ms);
    expect(await purge(3 * day)).toBe(0);
    expect(await purge(day)).toBe(1);
    const left = (await knex('runner_run').where('phase', 'terminal').orWhere('phase', 'queued').orderBy('id').select('id')).map(({ id }) =>
      String(id),
    );
    expect(left).toEqual([young.id, unpacked.id, live.id]);
    expect(await knex('runner_event').where({ run_id: old.id })).toEqual([]);
    expect((await knex('runner_task').whereNotNull('removed_at').select('id')).map(({ id }) => String(id))).toEqual([young.taskId]);
    runner.database.clockOffsetMs = 2 * day;
    expect(await purge(day)).toBe(1);
    expect(await knex('runner_task').whereNotNull('removed_at')).toEqual([]);
  });
});

onEveryDatabase(
  'the retention of runs',
  (suite) => {
    it('reads no table from end to end', async () => {
      const { knex } = suite.db;
      await knex.batchInsert(
        'runner_run',
        Array.from({ length: 20_000 }, (_, i) => ({
          task_id: 1,
          created_at: 1,
          ended_at: Date.now() - i,
          phase: 'terminal',
          log_packed: 1,
          job_uid: String(i).padStart(32, '0'),
          actor: 'alice',
        })),
        1_000,
      );
      await knex.raw(suite.db.name === 'postgres' ? 'ANALYZE runner_run' : 'ANALYZE TABLE runner_run');
      const postgres = suite.db.name === 'postgres' ? recordStatements(suite.db.address) : undefined;
      const mysql = postgres ? undefined : recordPlans(suite.db.address);
      const own = postgres?.knex ?? mysql?.knex;
      if (!own) throw new Error('no recorder');
      const runner = createCodeRunner({ knex: own, languages: [python()] });
      expect(await purgeRuns(runner.database, databaseFiles()(runner.database), day)).toBe(0);
      if (mysql) expect((await mysql.plans('runner_run')).filter(({ walked }) => walked.includes('runner_run'))).toEqual([]);
      for (const statement of postgres?.take().filter(({ sql }) => /^SELECT CAST.*runner_run/.test(sql)) ?? [])
        expect([statement.sql, await tablesRead(knex, statement)]).not.toEqual([statement.sql, expect.arrayContaining(['runner_run'])]);
      await runner.close();
      await own.destroy();
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

onEveryDatabase(
  'the sweep of contents',
  (suite) => {
    it('reads no table from end to end, however many contents, files and objects there are', async () => {
      const { knex } = suite.db;
      const hash = (i: number) => String(i).padStart(64, '0');
      const fill = (table: string, row: (i: number) => object) =>
        knex.batchInsert(table, Array.from({ length: 20_000 }, (_, i) => row(i)) as never, 1_000);
      await fill('runner_blob', (i) => ({ hash: hash(i), look_at: i < 10 ? 1 : Date.now() + day }));
      await fill('runner_manifest_blob', (i) => ({ manifest_hash: hash(i), blob_hash: hash(i + 1) }));
      await fill('runner_object', (i) => ({ name: `${String(i).padStart(32, '0')}/out/x`, part: 0, content: Buffer.from('x') }));
      await fill('runner_file', (i) => ({
        task_id: i,
        size: 1,
        updated_at: 1,
        folded_hash: hash(i),
        blob_hash: hash(i + 2),
        folded: 'x',
        path: 'x',
      }));
      await fill('runner_run', (i) => ({
        ...{ task_id: 1, created_at: 1, ended_at: Date.now(), phase: 'terminal', log_packed: 1, actor: 'alice', manifest_recorded: 1 },
        job_uid: String(i).padStart(32, '0'),
        manifest_hash: hash(i + 3),
      }));
      for (const table of ['blob', 'manifest_blob', 'object', 'file', 'run']) await knex.raw(`ANALYZE runner_${table}`);
      const { knex: own, take } = recordStatements(suite.db.address);
      const runner = createCodeRunner({ knex: own, languages: [python()] });
      const store = databaseFiles()(runner.database);
      expect(await store.list(`${'0'.repeat(31)}7/`, 10)).toEqual([`${'0'.repeat(31)}7/out/x`]);
      const blobTable = new BlobTable(runner.database, day);
      const blobs = new Blobs({ store, table: blobTable, graceMs: day });
      // Content 0 is referred to by nothing.
      expect(await sweepBlobs({ database: runner.database, blobs, blobTable, logger: silentLogger })).toBe(1);
      const made = take().filter(({ sql }) => /^(SELECT|UPDATE|DELETE).*runner_/s.test(sql));
      expect(made.length).toBeGreaterThan(5);
      for (const statement of made) expect([statement.sql, await tablesRead(knex, statement)]).toEqual([statement.sql, []]);
      await runner.close();
      await own.destroy();
    });
  },
  ['postgres'],
);
