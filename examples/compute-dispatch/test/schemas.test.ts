import { brokerSchema } from '@holdfast/broker/database';
import { codeRunnerSchema } from '@holdfast/code-runner';
import { compensateBizSchema } from '@holdfast/compensate-biz';
import { checkMigrated, coreSchema, Database, InvalidArgumentError, migrate, migrationSql, type Schema } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { notifierSchema } from '@holdfast/notifier';
import { outboxSchema } from '@holdfast/outbox';
import { scanSchema } from '@holdfast/sharded-scan';
import type { Knex } from 'knex';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dispatchSchema } from '../src/schema.ts';

const schemas: readonly Schema[] = [
  coreSchema,
  outboxSchema,
  brokerSchema,
  compensateBizSchema,
  notifierSchema,
  scanSchema,
  codeRunnerSchema,
  dispatchSchema,
];

/** A line for each index of the tables with the prefix, without the prefix: its table, name, columns and condition. */
async function indexes(knex: Knex, dialect: TestDatabase['name'], prefix: string): Promise<string[]> {
  const lines: string[] = [];
  if (dialect === 'postgres') {
    const { rows } = await knex.raw('SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = current_schema()');
    for (const { tablename, indexdef } of rows)
      if (tablename.startsWith(prefix))
        lines.push(
          indexdef
            .replaceAll(`"`, '')
            .replaceAll(prefix, '')
            .replaceAll(/ ON \w+\./g, ' ON '),
        );
  } else if (dialect === 'sqlite') {
    for (const { tbl_name, name, sql } of await knex('sqlite_master').where({ type: 'index' }))
      if (tbl_name.startsWith(prefix)) lines.push(`${sql ?? name}`.replaceAll(prefix, ''));
  } else {
    const [rows] = await knex.raw(
      'SELECT MIN(BINARY table_name) AS t, index_name AS i, GROUP_CONCAT(column_name ORDER BY seq_in_index) AS c FROM information_schema.statistics WHERE table_schema = DATABASE() GROUP BY BINARY table_name, index_name',
    );
    for (const { t, i, c } of rows) if (String(t).startsWith(prefix)) lines.push(`${String(t).slice(prefix.length)} ${i} (${c})`);
  }
  return lines.sort();
}

/** Tables without a primary key. */
async function keyless(knex: Knex, dialect: TestDatabase['name']): Promise<string[]> {
  if (dialect === 'sqlite') {
    const tables = (await knex('sqlite_master').where({ type: 'table' }).whereNot('name', 'like', 'sqlite_%')) as { name: string }[];
    const keys = await Promise.all(tables.map(({ name }) => knex.raw('SELECT name FROM pragma_table_info(?) WHERE pk > 0', [name])));
    return tables.filter((_, i) => keys[i]?.length === 0).map(({ name }) => name);
  }
  const here = dialect === 'postgres' ? 'current_schema()' : 'DATABASE()';
  const result = await knex.raw(
    `SELECT t.table_name AS name FROM information_schema.tables t WHERE t.table_schema = ${here} AND t.table_type = 'BASE TABLE' AND NOT EXISTS (SELECT 1 FROM information_schema.table_constraints c WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY')`,
  );
  return (dialect === 'postgres' ? result.rows : result[0]).map((row: { name: string }) => row.name);
}

describe.each(testDialects())('the tables of all packages on $name', (dialect) => {
  let db: TestDatabase;
  let complete: string[];
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, schemas, { tablePrefix: 'all_' });
    complete = await indexes(db.knex, db.name, 'all_');
  });
  afterAll(() => db?.drop());

  it('each have a primary key', async () => {
    expect(await keyless(db.knex, db.name)).toEqual([]);
  });

  it('are complete, though the migration was interrupted after each of its statements', async () => {
    const database = new Database({ knex: db.knex, tablePrefix: 'cut_' });
    let cuts = 0;
    try {
      await database.describe();
      for (const schema of schemas)
        for (const [i, migration] of schema.migrations.entries()) {
          const count = (await database.use(async (sql) => migration.statements(database, sql))).length;
          for (let left = 1; left <= count; left++) {
            const cut: Schema = {
              ...schema,
              migrations: [
                ...schema.migrations.slice(0, i),
                {
                  name: migration.name,
                  statements: async (database, sql) => {
                    const statements = await migration.statements(database, sql);
                    return [...statements.slice(0, left), 'THE PROCESS WAS KILLED HERE'];
                  },
                },
              ],
            };
            await expect(migrate(db.knex, [cut], { tablePrefix: 'cut_' })).rejects.toThrow(/syntax/i);
            cuts += 1;
          }
          await migrate(db.knex, [{ ...schema, migrations: schema.migrations.slice(0, i + 1) }], { tablePrefix: 'cut_' });
        }
    } finally {
      await database.close();
    }
    expect(cuts).toBeGreaterThan(80);
    expect(await indexes(db.knex, db.name, 'cut_')).toEqual(complete);
  });

  it('are complete after the script of `holdfast sql`', async () => {
    const database = new Database({ knex: db.knex, tablePrefix: 'sql_' });
    try {
      await database.describe();
      const script = (await migrationSql(database, schemas)).replaceAll(/^--.*$/gm, '').split(/;\n/);
      for (const statement of script) if (statement.trim()) await db.knex.raw(statement);
      expect(await checkMigrated(database, schemas)).toEqual([]);
      expect(await indexes(db.knex, db.name, 'sql_')).toEqual(complete);
    } finally {
      await database.close();
    }
  });

  it('keep their indexes where two prefixes differ in capital letters only, or the second is refused', async () => {
    await migrate(db.knex, schemas, { tablePrefix: 'Shop_' });
    expect(await indexes(db.knex, db.name, 'Shop_')).toEqual(complete);
    const second = migrate(db.knex, schemas, { tablePrefix: 'shop_' });
    if (db.name === 'sqlite') await expect(second).rejects.toThrow(InvalidArgumentError);
    else {
      await second;
      expect(await indexes(db.knex, db.name, 'shop_')).toEqual(complete);
    }
  });

  it('keep their indexes under a long prefix, or it is refused before anything is created', async () => {
    for (const length of [20, 32, 33, 40, 60]) {
      const tablePrefix = `p${length}_`.padEnd(length, 'x');
      for (const schema of schemas) {
        const done = await migrate(db.knex, [schema], { tablePrefix }).catch((error: unknown) => error);
        if (!(done instanceof Error)) continue;
        expect(done).toBeInstanceOf(InvalidArgumentError);
        expect(done.message).toMatch(/Give a tablePrefix of at most \d+ characters/);
        expect(length).toBeGreaterThan(30);
      }
      if (length <= 20 || db.name === 'sqlite') expect(await indexes(db.knex, db.name, tablePrefix)).toHaveLength(complete.length);
    }
  });
});
