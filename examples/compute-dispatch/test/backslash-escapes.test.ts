import { testDialects } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { describe, expect, it } from 'vitest';
import { backslashEscapes } from '../src/backslash-escapes.ts';

const dialects = testDialects().filter(({ name }) => name === 'mysql' || name === 'mariadb');
if (dialects.length === 0) it.skip('backslash escapes: neither mysql nor mariadb is up', () => undefined);

describe.each(dialects)('texts of customers on $name', (dialect) => {
  it.each(['NO_BACKSLASH_ESCAPES', 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES', ''])(
    'are stored whole, whatever the mode of the server: %j',
    async (mode) => {
      const db = await dialect.create();
      const afterCreate = (connection: Parameters<typeof backslashEscapes>[0], done: Parameters<typeof backslashEscapes>[1]) =>
        connection.query(`SET SESSION sql_mode = '${mode}'`, () => backslashEscapes(connection, done));
      const knex = knexFactory({ client: 'mysql2', connection: db.address, pool: { min: 0, max: 1, afterCreate } });
      try {
        await knex.raw('CREATE TABLE texts (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200) NOT NULL)');
        const texts = ["it's", '\\', "\\'); DROP TABLE texts; -- ", '\\\\n\n'];
        for (const text of texts) await knex('texts').insert({ text });
        expect((await knex('texts').select('text')).map((row) => row.text).sort()).toEqual(texts.toSorted());
        const [[row]] = await knex.raw('SELECT @@SESSION.sql_mode AS mode');
        expect(row.mode.split(',').includes('ANSI_QUOTES')).toBe(mode.includes('ANSI_QUOTES'));
      } finally {
        await knex.destroy();
        await db.drop();
      }
    },
  );
});
