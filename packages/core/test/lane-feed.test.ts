import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { Database, LaneFeed, type LaneRow, silentLogger } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

/** A database whose next read of the table waits, after it has read the rows, until the test lets it succeed or fail. */
class Held extends Database {
  reading = false;
  end: Promise<void> | undefined;

  override async rows<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]> {
    const rows = await super.rows<Row>(sql, params);
    if (sql.includes('lane_thing') && this.end) {
      this.reading = true;
      await this.end;
    }
    return rows;
  }
}

onEveryDatabase('a lane whose owner changes while it is read', (suite) => {
  it.each(['succeeds', 'fails'] as const)('is given out from its beginning, in order, when that read %s', async (how) => {
    const { knex } = suite.db;
    await knex.schema.dropTableIfExists('lane_thing');
    await knex.schema.createTable('lane_thing', (t) => {
      t.bigInteger('id').notNullable();
      t.integer('lane').notNullable();
      t.primary(['lane', 'id']);
    });
    const put = (id: number) => knex('lane_thing').insert({ id, lane: 0 });
    for (const id of [1, 2, 3]) await put(id);
    await knex('holdfast_lease').delete();
    const database = new Held({ knex: suite.db.connect() });
    await database.describe();
    const held: LaneRow[] = [];
    let lost = 0;
    const given: string[][] = [[]];
    const feed: LaneFeed<LaneRow> = new LaneFeed<LaneRow>({
      database,
      shape: { table: 'lane_thing', columns: [] },
      scope: 'things',
      lanes: [0],
      owner: 'me',
      leaseMs: 400,
      rescanMs: 300,
      onRows: (rows) => {
        held.push(...rows);
        given.at(-1)?.push(...rows.map(({ id }) => String(id)));
      },
      // As a relay does: it forgets the rows whose handling has not begun.
      onLost: () => {
        lost += 1;
        given.push([]);
        feed.forget(held.splice(0));
      },
      onDrain: async () => undefined,
      logger: silentLogger,
    });
    await feed.start();
    try {
      await until(() => given[0]?.length === 3);
      // The read waits after its connection is free: SQLite has one connection, and the thief needs it.
      let release: () => void = () => undefined;
      let fail: (error: Error) => void = () => undefined;
      database.end = new Promise((resolve, reject) => {
        release = resolve;
        fail = reject;
      });
      database.end.catch(() => undefined);
      await put(4);
      feed.wake();
      await until(() => database.reading);
      // Another process takes the lane, and ends at once.
      await knex('holdfast_lease').where({ scope: 'things' }).update({ owner: 'thief', epoch: 100, lease_until: 1 });
      await until(() => lost === 1 && feed.holds(0));
      const end = database.end;
      database.end = undefined;
      if (how === 'fails') fail(new Error('the connection was lost'));
      else release();
      await end.catch(() => undefined);
      await until(() => (given.at(-1)?.length ?? 0) >= 4);
      expect(given.at(-1)).toEqual(['1', '2', '3', '4']);
    } finally {
      await feed.stop();
      await database.close();
    }
  });
});

onEveryDatabase('a lane whose next row is large', (suite) => {
  it.each([
    ['no larger than the window', 2_500],
    ['larger than the window', 9_000],
  ])('is given out although other lanes always have small rows (%s)', async (_name, largeBytes) => {
    const { knex } = suite.db;
    await knex.schema.dropTableIfExists('lane_large');
    await knex.schema.createTable('lane_large', (t) => {
      t.bigInteger('id').notNullable();
      t.integer('lane').notNullable();
      t.text('body').notNullable();
      t.primary(['lane', 'id']);
    });
    const small = Array.from({ length: 200 }, (_, i) => ({ id: i + 1, lane: 0, body: 'x'.repeat(100) }));
    await knex('lane_large').insert(small);
    await knex('lane_large').insert([{ id: 1_000, lane: 1, body: 'x'.repeat(largeBytes) }]);
    await knex('holdfast_lease').delete();
    const given: string[] = [];
    const feed: LaneFeed<LaneRow & { readonly body: string }> = new LaneFeed({
      database: suite.database,
      shape: { table: 'lane_large', columns: ['body'], large: ['body'] },
      scope: 'large',
      lanes: [0, 1],
      owner: 'me',
      windowBytes: 3_000,
      rowBytes: ({ body }) => body.length,
      onRows: (rows) => {
        for (const row of rows) {
          given.push(String(row.id));
          // Some rows are always under way.
          setTimeout(() => feed.remove([row]), 2);
        }
      },
      onLost: () => undefined,
      onDrain: async () => undefined,
      logger: silentLogger,
    });
    await feed.start();
    try {
      await until(() => given.length === small.length + 1);
      // Also removed: the table of the next test has rows of the same ids.
      await until(async () => (await knex('lane_large').select('id')).length === 0);
    } finally {
      await feed.stop();
    }
    expect(given.indexOf('1000')).toBeLessThan(100);
    expect(given.filter((id) => id !== '1000')).toEqual(small.map(({ id }) => String(id)));
  });
});
