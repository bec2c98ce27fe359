import { Database } from '@holdfast/core';
import { seededRandom, type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Keyset, type Position } from '../src/walk/keyset.ts';
import { tableShape } from '../src/walk/table-shape.ts';

interface Row {
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

const key = ['a', 'b', 'c'].map((column) => ({ column, direction: 'asc' as const }));

describe.each(testDialects())('the statements of a scan by several columns on $name', (dialect) => {
  let db: TestDatabase;
  let database: Database;
  beforeEach(async () => {
    db = await dialect.create();
    database = new Database({ knex: db.knex });
    await database.describe();
    await db.knex.raw('CREATE TABLE keyed (a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, PRIMARY KEY (a, b, c))');
  });
  afterEach(async () => {
    await database.close();
    await db.drop();
  });

  it('read, count and look ahead as sorted rows in memory do, whatever the ends', async () => {
    const random = seededRandom(7);
    const below = (n: number): number => Math.floor(random() * n);
    const there = new Map<string, Row>();
    for (let i = 0; i < 150; i++) {
      const row = { a: below(4), b: below(5), c: below(9) };
      there.set(JSON.stringify(row), row);
    }
    await db.knex('keyed').insert([...there.values()]);
    const keyset = new Keyset(database, await tableShape(database, 'keyed', key));
    const compare = (one: readonly number[], other: readonly number[]): number => {
      for (const [i, n] of one.entries()) if (n !== other[i]) return n - (other[i] ?? 0);
      return 0;
    };
    const all = [...there.values()].map(({ a, b, c }) => [a, b, c]).sort(compare);
    const text = (position: readonly number[]): Position => position.map(String);
    for (let n = 0; n < 150; n++) {
      const ends = [0, 1].map(() => [below(4), below(5), below(9)]).sort(compare);
      const [from, to] = ends as [number[], number[]];
      const after = n % 5 === 0 ? undefined : from;
      const inside = all.filter((row) => (!after || compare(row, after) > 0) && compare(row, to) <= 0);
      const limit = 1 + below(20);
      const rows = await keyset.read<Row>(after && text(after), text(to), { sql: '1 = 1', params: [] }, limit);
      expect(
        rows.map(({ a, b, c }) => [Number(a), Number(b), Number(c)]),
        JSON.stringify({ after, to, limit }),
      ).toEqual(inside.slice(0, limit));
      expect(await keyset.count(after && text(after), text(to))).toBe(inside.length);
      const ahead = await keyset.ahead(after && text(after), text(to), limit);
      expect(ahead).toEqual(inside[limit - 1] && text(inside[limit - 1] as number[]));
    }
  });

  it('look ahead correctly when rows are added to the group between two statements', async () => {
    await db.knex('keyed').insert([...Array.from({ length: 9 }, (_, c) => ({ a: 1, b: 1, c: c * 10 })), { a: 2, b: 2, c: 1 }]);
    const keyset = new Keyset(database, await tableShape(database, 'keyed', key));
    const rows = database.rows.bind(database);
    let late = true;
    database.rows = async (sql, params) => {
      const found = await rows(sql, params);
      // Rows are added between the two statements, as by a busy writer.
      if (late && sql.includes('OFFSET')) {
        late = false;
        await db.knex('keyed').insert([1, 2, 3].map((c) => ({ a: 1, b: 1, c })));
      }
      return found as never;
    };
    expect(await keyset.ahead(['1', '1', '-1'], ['2', '2', '1'], 10)).toEqual(
      dialect.name === 'mysql' || dialect.name === 'mariadb' ? ['2', '2', '1'] : ['1', '1', '60'],
    );
  });
});
