import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTopology, defineScan, type ScanOptions, scanSchema } from '../src/index.ts';

type Where = ScanOptions<{ id: string }>['where'];

/** Conditions that mean one thing under a mode, and another without it; and how to write each so that the mode does not matter. */
const conditions: readonly (readonly [mode: string, differs: Where, same: Where])[] = [
  ['ANSI_QUOTES', (q) => void q.whereRaw('"state" = 0'), (q) => void q.whereRaw("?? = 0 AND name <> 'a\"b'", ['state'])],
  [
    'PIPES_AS_CONCAT',
    (q) => void q.whereRaw("state || name = '0a'"),
    (q) => void q.whereRaw("concat(state, name) = '0a' AND name <> '||'"),
  ],
  ['HIGH_NOT_PRECEDENCE', (q) => void q.whereRaw('NOT state BETWEEN 1 AND 5'), (q) => void q.whereRaw('state NOT BETWEEN 1 AND 5')],
  ['HIGH_NOT_PRECEDENCE', (q) => void q.whereNot('state', 2), (q) => void q.whereNot((some) => some.where('state', 2))],
  [
    'NO_BACKSLASH_ESCAPES',
    (q) => void q.whereRaw("state = 0 OR name = 'a\\\\b'"),
    (q) => void q.where('state', 0).orWhere('name', 'a\\\\b'),
  ],
  [
    'NO_BACKSLASH_ESCAPES',
    (q) => void q.where('state', 0).orWhere('name', 'like', 'a\\_b'),
    (q) => void q.where('state', 0).orWhereRaw("name LIKE ? ESCAPE '|'", ['a|_b']),
  ],
];
const emptyIsNull: (typeof conditions)[number] = [
  'EMPTY_STRING_IS_NULL',
  (q) => void q.where('state', 0).orWhere('name', '>', ''),
  (q) => void q.where('state', 0).orWhereNull('name'),
];

describe.each(testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb'))('a condition of a scan on $name', (dialect) => {
  let db: TestDatabase;
  let knex: Knex | undefined;
  beforeEach(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, scanSchema]);
    await db.knex.raw('CREATE TABLE moded_000 (id INTEGER NOT NULL PRIMARY KEY, state INTEGER NOT NULL, name VARCHAR(20) NULL)');
    await db.knex('moded_000').insert([0, 2, 7].map((state, i) => ({ id: i + 1, state, name: 'a' })));
  });
  afterEach(async () => {
    await knex?.destroy();
    await db.drop();
  });

  const scanned = async (mode: string, where: Where) => {
    const afterCreate = (
      connection: { query(sql: string, done: (error: Error | null) => void): void },
      done: (error: Error | null) => void,
    ) => connection.query(`SET SESSION sql_mode = '${mode}'`, done);
    knex = knexFactory({ client: 'mysql2', connection: db.address, pool: { min: 0, max: 4, afterCreate } });
    const seen: string[] = [];
    await using scan = defineScan<{ id: string }>({
      name: 'moded',
      topology: createTopology({ databases: { '01': knex }, tables: 1 }),
      table: 'moded',
      key: ['id'],
      where,
      state: db.knex,
      logger: silentLogger,
      process: (rows) => void seen.push(...rows.map(({ id }) => id)),
    });
    const { units } = await scan.run();
    return { seen, error: units[0]?.error };
  };

  it.each(dialect.name === 'mariadb' ? [...conditions, emptyIsNull] : conditions)(
    'that means something else under %s is refused, and the same in other words is not',
    async (mode, differs, same) => {
      const { seen, error } = await scanned(mode, differs);
      expect({ seen, error }).toMatchObject({
        seen: [],
        error: { code: 'not-scannable', message: expect.stringMatching(new RegExp(`^The condition of the scan of moded_000 .*${mode}`)) },
      });
      await knex?.destroy();
      expect((await scanned(mode, same)).error).toBeUndefined();
      await knex?.destroy();
      expect((await scanned('STRICT_TRANS_TABLES', differs)).error).toBeUndefined();
    },
  );
});
