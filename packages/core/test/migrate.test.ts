import { randomBytes } from 'node:crypto';
import { type TestDatabase, until } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, describe, expect, it } from 'vitest';
import {
  checkMigrated,
  coreSchema,
  Database,
  InvalidArgumentError,
  MigrationLockedError,
  MigrationRequiredError,
  migrate,
  migrationSql,
  type Schema,
  SchemaWriter,
} from '../src/index.ts';
import { canPool, startPooler } from './pgbouncer.ts';
import { onEveryDatabase } from './suite.ts';

/** A schema of one table with one index. */
function schemaOf(name: string, columns = 'a, b', more: { unique?: boolean; where?: string; wide?: string } = {}): Schema {
  return {
    name,
    migrations: [
      {
        name: '0001_create',
        statements: (database) => {
          const ddl = new SchemaWriter(database);
          ddl.table(`${name}_row`, `id ${ddl.id}, a INTEGER NOT NULL DEFAULT 0, b VARCHAR(20) NOT NULL DEFAULT 'x, (y'`);
          ddl.index(`${name}_row_index`, `${name}_row`, columns, more);
          return ddl.statements;
        },
      },
    ],
  };
}

/** A role with rights on the rows of the tables, and no right to create any. */
async function roleOf(db: TestDatabase): Promise<{ readonly knex: Knex; drop(): Promise<void> }> {
  const name = `t_${randomBytes(5).toString('hex')}`;
  const url = new URL(db.address);
  if (db.name === 'postgres') {
    const schema = url.searchParams.get('schema');
    await db.knex.raw(`CREATE ROLE ${name} LOGIN; GRANT USAGE ON SCHEMA ${schema} TO ${name}`);
    await db.knex.raw(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${name}`);
    url.search = '';
    url.username = name;
    const knex = knexFactory({ client: 'pg', connection: url.href, searchPath: [schema ?? ''] });
    return {
      knex,
      async drop() {
        await knex.destroy();
        await db.knex.raw(`DROP OWNED BY ${name}; DROP ROLE ${name}`);
      },
    };
  }
  await db.knex.raw(`CREATE USER '${name}'@'%' IDENTIFIED BY 'secret'`);
  await db.knex.raw(`GRANT SELECT, INSERT, UPDATE, DELETE ON \`${url.pathname.slice(1)}\`.* TO '${name}'@'%'`);
  url.username = name;
  url.password = 'secret';
  const knex = knexFactory({ client: 'mysql2', connection: url.href });
  return {
    knex,
    async drop() {
      await knex.destroy();
      await db.knex.raw(`DROP USER '${name}'@'%'`);
    },
  };
}

onEveryDatabase(
  'migrate',
  (suite) => {
    it('needs no right to create tables where nothing is left to do, and says what it lacks where something is', async () => {
      const role = await roleOf(suite.db);
      try {
        expect(await migrate(role.knex, [coreSchema])).toEqual({ core: [] });
        await expect(migrate(role.knex, [coreSchema, schemaOf('forbidden')])).rejects.toThrow(/denied/);
      } finally {
        await role.drop();
      }
    });

    it('waits for another process that migrates for as long as it may, and then names the holder of the lock', async () => {
      const entered = Promise.withResolvers<void>();
      const leave = Promise.withResolvers<void>();
      const slow: Schema = {
        name: 'slow',
        migrations: [
          {
            name: '0001_create',
            statements: async () => {
              entered.resolve();
              await leave.promise;
              return [];
            },
          },
        ],
      };
      const first = migrate(suite.db.knex, [slow]);
      await entered.promise;
      const refused = await migrate(suite.db.connect(), [slow], { lockTimeout: 300 }).catch((error: unknown) => error);
      leave.resolve();
      expect(refused).toBeInstanceOf(MigrationLockedError);
      expect(String(refused)).toMatch(/(Session|Connection) \d+ .*holds the/);
      expect(await first).toEqual({ slow: ['0001_create'] });
      expect(await migrate(suite.db.connect(), [slow], { lockTimeout: 300 })).toEqual({ slow: [] });
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);

onEveryDatabase(
  'migrate on a file',
  (suite) => {
    it('waits for another writer for as long as it may', async () => {
      const other = await suite.db.connect().transaction();
      const refused = migrate(suite.db.knex, [schemaOf('late')], { lockTimeout: 50 });
      await expect(refused).rejects.toThrow(MigrationLockedError);
      await other.rollback();
      expect(await migrate(suite.db.knex, [schemaOf('late')], { lockTimeout: 50 })).toEqual({ late: ['0001_create'] });
    });

    it('refuses a prefix that SQLite does not tell from another', async () => {
      await migrate(suite.db.knex, [coreSchema], { tablePrefix: 'Billing_' });
      for (const tablePrefix of ['billing_', 'BILLING_']) {
        await expect(migrate(suite.db.knex, [coreSchema], { tablePrefix })).rejects.toThrow(/Billing_holdfast_core_migrations/);
        const database = new Database({ knex: suite.db.knex, tablePrefix });
        await expect(checkMigrated(database, [coreSchema])).rejects.toThrow(InvalidArgumentError);
      }
    });
  },
  ['sqlite'],
);

onEveryDatabase('what a migration finds', (suite) => {
  const shapes: readonly [string, Parameters<typeof schemaOf>[1], Parameters<typeof schemaOf>[2], string][] = [
    ['other columns', 'a, b', {}, '(b, a)'],
    ['fewer columns', 'a, b', {}, '(a)'],
    ['no uniqueness', 'a, b', { unique: true }, '(a, b)'],
    ['another direction', 'a DESC, b', {}, '(a, b)'],
    ['no condition', 'a, b', { where: "b = 'x' AND a IN (1, 2)", wide: 'b, a' }, '(a, b)'],
  ];
  it.each(shapes)('is refused if it is an index of our name with %s', async (what, columns, more, theirs) => {
    // MariaDB 10.6 has no descending indexes.
    if (what === 'another direction' && suite.name === 'mariadb') return;
    const name = what.replaceAll(' ', '_');
    const schema = schemaOf(name, columns, more);
    await suite.db.knex.raw(`CREATE TABLE ${name}_row (id INTEGER PRIMARY KEY, a INTEGER, b VARCHAR(20))`);
    await suite.db.knex.raw(`CREATE INDEX ${name}_row_index ON ${name}_row ${theirs}`);
    const refused = await migrate(suite.db.knex, [schema]).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(InvalidArgumentError);
    expect(String(refused)).toMatch(new RegExp(`index ${name}_row_index .*Drop it`));
    await suite.db.knex.raw(`DROP INDEX ${name}_row_index${suite.database.family === 'mysql' ? ` ON ${name}_row` : ''}`);
    expect(await migrate(suite.db.knex, [schema])).toEqual({ [name]: ['0001_create'] });
  });

  it.each([
    ['plain', 'a, b', {}],
    ['unique', 'a, id', { unique: true }],
    ['descending', 'a DESC, b', {}],
    ['partial', 'a, b', { where: "b = 'x' AND a IN (1, 2) AND id <> 7 AND b IS NOT NULL", wide: 'b, a' }],
  ])('is taken for ours if it is: %s', async (name, columns, more) => {
    const schema = schemaOf(`same_${name}`, columns, more);
    const statements = await schema.migrations[0]?.statements(suite.database, {} as never);
    for (const statement of statements ?? []) await suite.db.knex.raw(statement);
    expect(await migrate(suite.db.knex, [schema])).toEqual({ [`same_${name}`]: ['0001_create'] });
  });

  it('is refused if it is a table of our name with other columns', async () => {
    await suite.db.knex.raw('CREATE TABLE foreign_row (id INTEGER PRIMARY KEY, body VARCHAR(20))');
    await expect(migrate(suite.db.knex, [schemaOf('foreign')])).rejects.toThrow(/table foreign_row .*lacks a, b\. Rename it/);
    expect(await migrate(suite.db.knex, [schemaOf('foreign')], { tablePrefix: 'own_' })).toEqual({ foreign: ['0001_create'] });
  });

  it('is nothing after the script of `holdfast sql`, also if that is run twice', async () => {
    const schemas = [schemaOf('scripted'), coreSchema];
    const database = new Database({ knex: suite.db.knex, tablePrefix: 'sql_' });
    try {
      await expect(checkMigrated(database, schemas)).rejects.toThrow(MigrationRequiredError);
      const script = (await migrationSql(database, schemas)).replaceAll(/^--.*$/gm, '').split(/;\n/);
      for (const statement of script) if (statement.trim()) await suite.db.knex.raw(statement);
      expect(await checkMigrated(database, schemas)).toEqual([]);
      for (const statement of script) if (/^\s*INSERT/.test(statement)) await suite.db.knex.raw(statement);
      expect(await migrate(suite.db.knex, schemas, { tablePrefix: 'sql_' })).toEqual({ scripted: [], core: [] });
    } finally {
      await database.close();
    }
  });
});

const server = process.env.HOLDFAST_POSTGRES_URL;
describe.runIf(server && canPool && (process.env.HOLDFAST_DATABASES ?? 'postgres').includes('postgres'))(
  'migrate through a pooler in transaction mode',
  () => {
    const closing: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close();
    });

    it('leaves no lock behind, and many at once take turns', async () => {
      const pooler = await startPooler(server ?? '');
      closing.push(() => pooler.stop());
      const direct = knexFactory({ client: 'pg', connection: server ?? '' });
      const schema = `t_${randomBytes(6).toString('hex')}`;
      await direct.raw(`CREATE SCHEMA ${schema}`);
      closing.push(() => direct.destroy());
      closing.push(() => direct.raw(`DROP SCHEMA ${schema} CASCADE`));
      const connect = (): Knex => {
        const knex = knexFactory({ client: 'pg', connection: pooler.address });
        closing.push(() => knex.destroy());
        return knex;
      };
      const results = await Promise.all(Array.from({ length: 4 }, () => migrate(connect(), [coreSchema], { schema, lockTimeout: '30s' })));
      expect(results.filter((done) => done.core?.length !== 0)).toHaveLength(1);
      // More than once, as the pooler gives each client another connection to the server.
      for (const name of ['one', 'two', 'three'])
        expect(await migrate(connect(), [schemaOf(name)], { schema, lockTimeout: '30s' })).toEqual({ [name]: ['0001_create'] });
      const locks = () =>
        direct('pg_locks')
          .where({ locktype: 'advisory' })
          .whereRaw('((classid::bigint << 32) | objid::bigint) = hashtext(?)::bigint', [`holdfast-migrate-${schema}-`]);
      await until(async () => (await locks()).length === 0);
    });
  },
);
