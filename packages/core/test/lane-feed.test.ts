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
