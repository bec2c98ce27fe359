import { readFileSync } from 'node:fs';
import { brokerSchema } from '@holdfast/broker/database';
import { codeRunnerSchema } from '@holdfast/code-runner';
import { compensateBizSchema } from '@holdfast/compensate-biz';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { notifierSchema } from '@holdfast/notifier';
import { outboxSchema } from '@holdfast/outbox';
import { scanSchema } from '@holdfast/sharded-scan';
import { expect, it } from 'vitest';

const schemas = [coreSchema, outboxSchema, compensateBizSchema, notifierSchema, scanSchema, codeRunnerSchema, brokerSchema];

it('the page of tables names each table that migrate makes, and no other', async () => {
  const knex = openSqlite(':memory:');
  try {
    await migrate(knex, schemas);
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
