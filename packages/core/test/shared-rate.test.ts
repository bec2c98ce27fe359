import { expect, it } from 'vitest';
import { SharedRate } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('a rate over all processes', (suite) => {
  it('lets work start again within a period after the clock of the database was set back, also if it was used up', async () => {
    const { database } = suite;
    const options = { limit: 4, perMs: 1_000 };
    // A process that has not found the rate used up asks the database each time.
    const start = (wanted: number): Promise<readonly number[]> =>
      database.transaction((sql) =>
        new SharedRate(database, 'test', 'set-back', options).within(sql, wanted, async (n) => Array.from({ length: n }, (_, i) => i)),
      );
    database.clockOffsetMs = 3_600_000;
    expect(await start(1)).toHaveLength(1);
    expect(await start(9)).toHaveLength(3);
    database.clockOffsetMs = 0;
    // They count as starts of now, once.
    expect(await start(9)).toEqual([]);
    database.clockOffsetMs = 1_200;
    expect(await start(9)).toHaveLength(4);
    database.clockOffsetMs = 0;
  });
});
