import { recordLog, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { coreSchema, migrate, type Schema, SchemaWriter } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase(
  'an index that is built CONCURRENTLY',
  (suite) => {
    it('says for which transaction it waits, and how to end it', async () => {
      const { knex } = suite.db;
      await knex.schema.createTable('used', (table) => void table.integer('a'));
      const schema: Schema = {
        name: 'waits',
        migrations: [
          {
            name: '0001_index',
            statements: (database) => {
              const ddl = new SchemaWriter(database);
              ddl.index('used_a', 'used', 'a', { concurrently: true });
              return ddl.statements;
            },
          },
        ],
      };
      const log = recordLog();
      const old = await suite.db.connect().transaction();
      const [{ pid }] = (await old.raw('SELECT pg_backend_pid() AS pid')).rows;
      await old('used').insert({ a: 1 });
      const migrated = migrate(knex, [coreSchema, schema], { logger: log });
      try {
        await until(() => log.at('warn', `pg_terminate_backend(${pid})`).length === 1);
      } finally {
        await old.rollback();
      }
      await migrated;
      expect(log.lines[0]?.fields).toMatchObject({
        holders: [{ pid, state: 'idle in transaction', query: expect.stringContaining('insert into') }],
      });
    });
  },
  ['postgres'],
);
