import { expect, it } from 'vitest';
import { updateFromValues } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

const texts = ['plain', "it's", 'a \\ b \\\\', 'is it ? {now} :x', 'ü 🚀 ', '', 'x'.repeat(70_000), null, undefined] as const;

onEveryDatabase('an update of many rows, each with values of its own', (suite) => {
  it.each([1, 9, 500])('writes %i rows, and no others: any text, NULL, and ids of 64 bits', async (count) => {
    const { database, db } = suite;
    const table = `many_${count}`;
    await db.knex.schema.createTable(table, (t) => {
      t.bigInteger('id').primary();
      t.integer('n').nullable();
      t.text('body', 'longtext').nullable();
    });
    const ids = Array.from({ length: count + 1 }, (_, i) => String(9_007_199_254_740_992n + BigInt(i)));
    for (let from = 0; from < ids.length; from += 100)
      await db.knex(table).insert(ids.slice(from, from + 100).map((id) => ({ id, n: 7, body: 'before' })));
    const rows = ids.slice(1).map((row_id, i) => ({ row_id, number: i % 3 === 0 ? null : -i, words: texts[i % texts.length] }));
    const changed = await database.use(async (sql) => {
      const update = updateFromValues(database, {
        table,
        types: { row_id: 'id', number: 'integer', words: 'text' },
        rows,
        on: 't.id = u.row_id',
        set: { n: 'COALESCE(u.number, 0) + 1', body: 'u.words' },
      });
      return sql.run(update.sql, update.params);
    });
    expect(changed).toBe(count);
    const stored = await database.rows<{ id: string; n: number; body: string | null }>(
      `SELECT ${database.text('id')} AS id, n, body FROM ${database.table(table)} ORDER BY ${table}.id`,
    );
    expect(stored.map(({ id, n, body }) => [id, Number(n), body])).toEqual([
      [ids[0], 7, 'before'],
      ...rows.map(({ row_id, number, words }) => [row_id, (number ?? 0) + 1, words ?? null]),
    ]);
  });
});
