import { expect, it } from 'vitest';
import { isConnectionError } from '../src/database/transient.ts';
import { Database, type SqlRunner } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase(
  'a session that became read-only, as at a failover',
  (suite) => {
    const readOnly = () =>
      suite.database.family === 'postgres' ? 'SET default_transaction_read_only = on' : 'SET SESSION TRANSACTION READ ONLY';
    const write = "INSERT INTO holdfast_audit (at_ms, actor, action, subject, reason) VALUES (1, 'a', 'b', 'c', 'd')";
    const one = async (run: (database: Database) => Promise<void>) => {
      const database = new Database({ knex: suite.db.knex, loopConnections: 1 });
      try {
        await database.use(async (sql) => void (await sql.run(readOnly())));
        await run(database);
      } finally {
        await database.close();
      }
    };
    const writes: readonly [string, (database: Database) => Promise<unknown>][] = [
      ['a statement', (database) => database.run(write)],
      ['a statement with rows', (database) => database.rows(write)],
      ['a transaction', (database) => database.transaction((sql) => sql.run(write))],
    ];

    it.each(writes)('is replaced by a new one after the first write that fails: %s', async (_name, attempt) => {
      await one(async (database) => {
        const error = await attempt(database).catch((thrown: unknown) => thrown);
        expect(isConnectionError(error), String(error)).toBe(true);
        await attempt(database);
      });
    });

    it("is replaced in the service's own pool, too", async () => {
      const knex = suite.db.connect();
      (knex.client as { pool: { max: number } }).pool.max = 1;
      await knex.raw(readOnly());
      const submit = () =>
        knex.transaction(async (trx) => {
          const sql: SqlRunner = await suite.database.within(trx);
          await sql.run(write);
        });
      const byCaller = () =>
        knex.transaction(async (trx) => {
          await suite.database.within(trx);
          await trx.raw(write);
        });
      await expect(submit()).rejects.toSatisfy(isConnectionError);
      await submit();
      await knex.raw(readOnly());
      await expect(byCaller()).rejects.toSatisfy(isConnectionError);
      await byCaller();
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

it.each([
  [{ code: '25006' }, true],
  [{ errno: 1290, code: 'ER_OPTION_PREVENTS_STATEMENT' }, true],
  [{ errno: 1792, code: 'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION' }, true],
  [{ errno: 1836, code: 'ER_READ_ONLY_MODE' }, true],
  [{ errno: 1047, code: 'ER_UNKNOWN_COM_ERROR' }, true],
  [{ errno: 1062, code: 'ER_DUP_ENTRY' }, false],
  [{ code: '42501' }, false],
])('counts %j as a lost connection: %s', (fields, lost) => {
  expect(isConnectionError(Object.assign(new Error('in whatever language'), fields))).toBe(lost);
});
