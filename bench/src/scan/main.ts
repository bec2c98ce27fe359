import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { testDialects } from '@holdfast/core/testing';
import { median, rounds } from '../report/report.ts';
import type { BenchOptions } from '../tasks.ts';
import { instances, keysetKnex, keysetPg, offsetPaging, ours } from './contestants.ts';
import { makeTables, type Tables } from './tables.ts';

/** 2 x 4 tables: ours against loops by key, and against OFFSET. */
export async function scan(options: BenchOptions): Promise<void> {
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  const postgres = testDialects().find(({ name }) => name === 'postgres');
  if (!postgres) throw new Error('postgres is not up; run npm run services:up and set its address');
  const on = async <T>(rows: number, everyNth: number, run: (tables: Tables) => Promise<T>): Promise<T> => {
    const tables = await makeTables(postgres, rows, everyNth);
    try {
      return await run(tables);
    } finally {
      await tables.drop();
    }
  };
  const total = 1_000_000;
  for (const [share, everyNth] of [
    ['all', 1],
    ['1%', 100],
  ] as const) {
    const bench = `scan-${share}/postgres`;
    if (!wanted(bench)) continue;
    const matching = total / everyNth;
    await on(total, everyNth, async (tables) => {
      const mine = ours(tables, total, matching);
      const one = await keysetPg(tables, total, matching, 1);
      const four = await keysetPg(tables, total, matching, 4);
      const against = (what: string, peers: Readonly<Record<string, () => Promise<number>>>) =>
        rounds(
          what,
          `rows/s of 1,000,000 in 8 tables, ${share} of them matching, by 1,000`,
          options.rounds,
          { ours: () => mine.pass(), ...peers },
          options.json,
        );
      await against(bench, { 'loop by key, pg': () => one.pass(), 'loop by key, knex': () => keysetKnex(tables, total, matching) });
      await against(`${bench}, 4 tables at once`, { 'loop by key, pg': () => four.pass() });
      // In a process of its own: its garbage would slow the next contestant.
      await against(`${bench}, OFFSET`, { 'OFFSET paging, knex': () => offsetPaging(tables, total, matching) });
      for (const contestant of [mine, one, four]) await contestant.close();
    });
  }
  if (wanted('scan-memory/postgres')) {
    const peak = (tables: Tables): number =>
      Number(
        execFileSync(
          process.execPath,
          [
            // Node sizes its young generation by the machine's memory, up to 128 MiB and more; here, as in a container of 2 GiB.
            '--max-semi-space-size=16',
            '--conditions=@holdfast/source',
            '--disable-warning=ExperimentalWarning',
            join(import.meta.dirname, 'memory-process.ts'),
            ...tables.databases.map(({ address }) => address),
          ],
          { encoding: 'utf8' },
        ),
      );
    const small = await on(100_000, 1, async (tables) => median([peak(tables), peak(tables), peak(tables)]));
    const large = await on(total, 1, async (tables) => median([peak(tables), peak(tables), peak(tables)]));
    const result = {
      bench: 'scan-memory/postgres',
      unit: 'MiB of resident memory at most',
      rows100k: Math.round(small),
      rows1M: Math.round(large),
    };
    console.log(
      options.json
        ? JSON.stringify(result)
        : `\n${result.bench}  (${result.unit})\n  100,000 rows ${result.rows100k}   1,000,000 rows ${result.rows1M}`,
    );
  }
  if (wanted('scan-instances/postgres')) {
    const one = await on(80_000, 1, (tables) => instances(tables, 1));
    const three = await on(80_000, 1, (tables) => instances(tables, 3));
    const result = {
      bench: 'scan-instances/postgres',
      unit: 's for 80,000 rows, 20 ms of work for every 200',
      one: Number(one.seconds.toFixed(1)),
      three: Number(three.seconds.toFixed(1)),
      times: Number((one.seconds / three.seconds).toFixed(2)),
      handledTwice: three.handled - 80_000,
    };
    console.log(
      options.json
        ? JSON.stringify(result)
        : `\n${result.bench}  (${result.unit})\n  one ${result.one}   three ${result.three}   ${result.times} times as fast, ${result.handledTwice} rows handled twice`,
    );
  }
}
