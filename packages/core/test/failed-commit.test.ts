import { DatabaseSync } from 'node:sqlite';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { afterCommit, Database, TransactionDoomedError } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase(
  'a COMMIT that fails',
  (suite) => {
    /** Each commits a row whose deferred foreign key points to nothing. */
    const violations: readonly [string, () => Promise<unknown>][] = [
      ['our own transaction', () => suite.database.transaction((sql) => sql.run('INSERT INTO child (parent) VALUES (99)'))],
      ['a transaction of knex', () => suite.db.knex.transaction((trx) => trx('child').insert({ parent: 99 }))],
      [
        'a transaction of knex that we joined',
        () =>
          suite.db.knex.transaction(async (trx) => {
            const sql = await suite.database.within(trx);
            await sql.run('INSERT INTO child (parent) VALUES (99)');
          }),
      ],
    ];

    it.each(violations)('leaves nothing open: %s', async (_name, violate) => {
      const { knex } = suite.db;
      await knex.schema.dropTableIfExists('child');
      await knex.schema.dropTableIfExists('parent');
      await knex.raw('CREATE TABLE parent (id INTEGER PRIMARY KEY)');
      await knex.raw('CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)');
      for (let i = 0; i < 3; i++) await expect(violate()).rejects.toThrow(/foreign key/i);
      // A plain insert is committed, not part of a transaction that nobody ends.
      await knex('parent').insert({ id: 1 });
      await suite.database.run('INSERT INTO child (parent) VALUES (1)');
      await suite.database.transaction((sql) => sql.run('INSERT INTO child (parent) VALUES (1)'));
      await knex.transaction((trx) => trx('child').insert({ parent: 1 }));
      const other = suite.db.connect();
      expect([(await other('parent')).length, (await other('child')).length]).toEqual([1, 3]);
    });

    it('does not call the hooks', async () => {
      let called = false;
      await suite.db.knex
        .transaction(async (trx) => {
          await afterCommit(trx, () => {
            called = true;
          });
          await trx('child').insert({ parent: 99 });
        })
        .catch(() => undefined);
      await suite.database.run('INSERT INTO child (parent) VALUES (1)');
      expect(called).toBe(false);
    });
  },
  ['sqlite', 'postgres'],
);

onEveryDatabase(
  'SQLite',
  (suite) => {
    /** Another process that reads: with a rollback journal, which has no WAL, a COMMIT waits for it. */
    const reader = async () => {
      await suite.db.knex.raw('PRAGMA journal_mode = DELETE');
      await suite.db.knex.schema.dropTableIfExists('busy');
      await suite.db.knex.schema.createTable('busy', (t) => void t.increments('id'));
      const other = new DatabaseSync(new URL(suite.db.address).pathname);
      other.exec('BEGIN');
      other.prepare('SELECT count(*) FROM busy').all();
      return { end: () => other.close() };
    };

    it('calls the hooks of a COMMIT that waited for a reader', async () => {
      const blocked = await reader();
      let called = false;
      const committed = suite.db.knex.transaction(async (trx) => {
        await afterCommit(trx, () => {
          called = true;
        });
        await trx('busy').insert({});
        setTimeout(blocked.end, 50);
      });
      await committed;
      await until(() => called);
    });

    it('rolls back when a COMMIT has waited too long', async () => {
      const blocked = await reader();
      const impatient = new Database({ knex: suite.db.knex, statementTimeout: 20 });
      await expect(impatient.transaction((sql) => sql.run('INSERT INTO busy DEFAULT VALUES'))).rejects.toMatchObject({ errcode: 5 });
      blocked.end();
      await suite.database.transaction((sql) => sql.run('INSERT INTO busy DEFAULT VALUES'));
      expect(await suite.db.knex('busy')).toHaveLength(1);
    });

    it('accepts nothing after an error at which it rolled the transaction back on its own', async () => {
      const { knex } = suite.db;
      await knex.raw('PRAGMA journal_mode = WAL');
      await knex.raw('CREATE TABLE strict_rows (id INTEGER PRIMARY KEY, n INTEGER)');
      await knex.raw(
        "CREATE TRIGGER strict_rows_check BEFORE INSERT ON strict_rows WHEN new.n < 0 BEGIN SELECT RAISE(ROLLBACK, 'below zero'); END",
      );
      let called = false;
      const swallowing = (sql: { insert(n: number): Promise<unknown> }) => async () => {
        await sql.insert(1);
        await sql.insert(-1).catch(() => undefined);
        await sql.insert(2);
      };
      const ours = suite.database.transaction((sql) =>
        swallowing({ insert: (n) => sql.run('INSERT INTO strict_rows (n) VALUES (?)', [n]) })(),
      );
      await expect(ours).rejects.toThrow(TransactionDoomedError);
      const theirs = knex.transaction(async (trx) => {
        await afterCommit(trx, () => {
          called = true;
        });
        await swallowing({ insert: (n) => trx('strict_rows').insert({ n }) })();
      });
      await expect(theirs).rejects.toThrow(TransactionDoomedError);
      const committing = knex.transaction(async (trx) => {
        await afterCommit(trx, () => {
          called = true;
        });
        await trx('strict_rows').insert({ n: 3 });
        await trx('strict_rows')
          .insert({ n: -3 })
          .catch(() => undefined);
      });
      await expect(committing).rejects.toThrow(TransactionDoomedError);
      await knex.transaction((trx) => trx('strict_rows').insert({ n: 4 }));
      expect([(await knex('strict_rows')).map((row) => row.n), called]).toEqual([[4], false]);
    });
  },
  ['sqlite'],
);
