import { readFileSync } from 'node:fs';
import { brokerSchema } from '@holdfast/broker/database';
import { codeRunnerSchema } from '@holdfast/code-runner';
import { compensateBizSchema } from '@holdfast/compensate-biz';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { testDialects } from '@holdfast/core/testing';
import { notifierSchema } from '@holdfast/notifier';
import { outboxSchema } from '@holdfast/outbox';
import { schedulerSchema } from '@holdfast/scheduler';
import { scanSchema } from '@holdfast/sharded-scan';
import { xxlJobSchema } from '@holdfast/xxl-job';
import { describe, expect, it } from 'vitest';

const schemas = [
  coreSchema,
  outboxSchema,
  compensateBizSchema,
  notifierSchema,
  scanSchema,
  codeRunnerSchema,
  brokerSchema,
  schedulerSchema,
];

it('the page of tables names each table that migrate makes, and no other', async () => {
  const knex = openSqlite(':memory:');
  try {
    await migrate(knex, [...schemas, xxlJobSchema]);
    const rows = (await knex('sqlite_master').where({ type: 'table' }).select('name')) as { name: string }[];
    const made = rows.map(({ name }) => name.replace(/^holdfast_\w+_migrations$/, 'holdfast_…_migrations'));
    const page = readFileSync(new URL('../operate/tables.md', import.meta.url), 'utf8');
    const lines = page.split('\n').filter((line) => line.startsWith('| `'));
    const named = lines.flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name));
    expect(named.toSorted()).toEqual([...new Set(made)].filter((name) => !name.startsWith('sqlite_')).toSorted());
  } finally {
    await knex.destroy();
  }
});

describe.each(testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb'))('on $name', (dialect) => {
  it('no text of any table leaves out trailing spaces, whether it is new or of an earlier version', { timeout: 60_000 }, async () => {
    const db = await dialect.create();
    try {
      const padded = async () => {
        const [rows] = await db.knex.raw(
          "SELECT table_name AS t, column_name AS c FROM information_schema.columns WHERE table_schema = DATABASE() AND collation_name NOT IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin') AND table_name NOT LIKE '%\\_migrations'",
        );
        return rows as readonly { t: string; c: string }[];
      };
      await migrate(db.knex, schemas);
      expect(await padded()).toEqual([]);
      const [tables] = await db.knex.raw('SELECT table_name AS t FROM information_schema.tables WHERE table_schema = DATABASE()');
      // Tables that came later were made with the right collation.
      const later = /^(runner_blob|runner_manifest_blob|scheduler_\w+)$/;
      for (const { t } of (tables as { t: string }[]).filter((table) => !later.test(table.t))) {
        await db.knex.raw(`ALTER TABLE ${t} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`);
        if (t.endsWith('_migrations')) await db.knex(t).where('name', 'like', '%_trailing_spaces').delete();
      }
      expect((await padded()).length).toBeGreaterThan(50);
      await migrate(db.knex, schemas);
      expect(await padded()).toEqual([]);
    } finally {
      await db.drop();
    }
  });
});
