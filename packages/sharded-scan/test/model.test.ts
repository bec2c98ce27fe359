import { seededRandom } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { createTopology, type RowResult, type Scan, type Shard } from '../src/index.ts';
import { onEveryPair, type Thing } from './suite.ts';

const worlds = Number(process.env.HOLDFAST_CYCLES ?? 3) * 3;
const firstSeed = Number(process.env.HOLDFAST_SEED ?? 1);

/** The test's record of a row that matches from the beginning to the end. */
interface Known {
  readonly shard: Shard;
  readonly id: bigint;
  readonly fails: boolean;
}

/**
 * Random worlds: topologies, rows, batches, windows; others who change, add and delete rows, rows that can't be handled, instances that
 * join, leave, and are cut off. Four things hold in all of them: each row that matches throughout is handed over; nobody ever sees a
 * checkpoint beyond such a row that is not handled, nor one that goes back; an epoch of a unit has one owner.
 */
onEveryPair('a scan of a random world', (suite) => {
  it(`hands over every row that matches, and never says that it has before it has, in ${worlds} worlds`, async () => {
    for (let seed = firstSeed; seed < firstSeed + worlds; seed++) await world(seed);
  }, 240_000);

  const world = async (seed: number): Promise<void> => {
    const random = seededRandom(seed * 7_919);
    const below = (n: number): number => Math.floor(random() * n);
    const oneOf = <T>(...values: readonly T[]): T => values[below(values.length)] as T;
    const [first, second] = suite.databases;
    const [databases, tables] = [oneOf(1, 2), oneOf(1, 2, 4)];
    const knexes = [first.knex, second.knex].slice(0, databases);
    const topology = createTopology({ databases: Object.fromEntries(knexes.map((knex, i) => [`0${i + 1}`, knex])), tables });
    const direction = oneOf('asc', 'desc') as 'asc' | 'desc';
    const share = oneOf(0.02, 0.3, 1);
    const failing = oneOf(0, 0, 0.03);
    const says = oneOf('throws', 'returns');

    const known: Known[] = [];
    const unsteady: { readonly shard: Shard; readonly id: bigint }[] = [];
    const base = oneOf(1n, 9_007_199_254_740_993n);
    for (const shard of topology.shards) {
      await shard.query('thing').delete();
      let id = base;
      const rows = Array.from({ length: oneOf(0, 1, 90, 180) }, () => {
        id += BigInt(1 + below(5));
        const matches = random() < share;
        if (random() < 0.3) unsteady.push({ shard, id });
        else if (matches) known.push({ shard, id, fails: random() < failing });
        return { id: String(id), mq_state: matches ? 0 : 1 };
      });
      for (let from = 0; from < rows.length; from += 90) await shard.query('thing').insert(rows.slice(from, from + 90));
    }
    for (const table of ['scan_pass', 'scan_unit', 'scan_failure', 'holdfast_lease', 'holdfast_member']) await first.knex(table).delete();

    const nameOf = (shard: string, id: string): string => `${shard} ${id}`;
    const fails = new Set(known.filter((one) => one.fails).map(({ shard, id }) => nameOf(shard.name, String(id))));
    const handled = new Set<string>();
    const owners = new Map<string, number>();
    const complaints: string[] = [];
    const alive = new Map<Scan<Thing>, { readonly stop: AbortController; readonly ended: Promise<void> }>();
    const left: Promise<unknown>[] = [];
    let instances = 0;
    const options = {
      topology,
      key: [{ column: 'id', direction }],
      batch: oneOf(1, 7, 20),
      window: oneOf(1, 10, 60, 50_000),
      concurrency: oneOf(1, 4),
      perDatabase: 4,
      lease: '400ms' as const,
      // An instance that is cut off leaves its batch as it is.
      stopTimeout: 0,
      process: async (rows: readonly Thing[], unit: { readonly shard: Shard }): Promise<RowResult[] | undefined> => {
        const names = rows.map(({ id }) => nameOf(unit.shard.name, id));
        await new Promise((resolve) => setTimeout(resolve, below(4)));
        const bad = names.map((name) => fails.has(name));
        if (says === 'throws' && bad.some(Boolean)) throw new Error('this row can not be handled');
        for (const [i, name] of names.entries()) if (!bad[i]) handled.add(name);
        return says === 'returns' ? bad.map((is) => (is ? new Error('this row can not be handled') : undefined)) : undefined;
      },
    };
    const join = (): void => {
      const me = instances++;
      const scan = suite.other(options);
      const stop = new AbortController();
      scan.events.on('unit:started', ({ unit, epoch }) => {
        const key = `${unit} epoch ${epoch}`;
        if (owners.has(key)) complaints.push(`${key} is owned by ${owners.get(key)} and ${me}`);
        owners.set(key, me);
      });
      const ended = scan
        .run({ signal: stop.signal })
        .catch(() => undefined)
        .then(() => suite.cutOff(scan));
      alive.set(scan, { stop, ended });
    };
    const leave = async (how: 'stop' | 'cut off'): Promise<void> => {
      const [scan, one] = [...alive][below(alive.size)] ?? [];
      if (!scan || !one) return;
      alive.delete(scan);
      one.stop.abort(new Error('leaves'));
      // The test does not wait for an instance that is cut off: it ends when its leases have expired or its wait for a connection times
      // out.
      if (how === 'cut off') await suite.cutOff(scan);
      else left.push(one.ended);
    };
    const seen = new Map<string, bigint>();
    const look = async (): Promise<void> => {
      // Every row before the checkpoint must have been handled.
      const units = await first.knex('scan_unit').select('unit', 'pass', 'position');
      const failed = new Set(
        (await first.knex('scan_failure').select('unit', 'row_key')).map(({ unit, row_key }) => nameOf(unit, JSON.parse(row_key)[0])),
      );
      for (const { unit, pass, position } of units) {
        if (position === null) continue;
        const at = BigInt(JSON.parse(position)[0]);
        const of = `${pass} ${unit}`;
        const before = seen.get(of) ?? at;
        if (direction === 'asc' ? at < before : at > before) complaints.push(`the checkpoint of ${unit} went back from ${before} to ${at}`);
        seen.set(of, at);
        for (const { shard, id } of known) {
          if (shard.name !== unit || (direction === 'asc' ? id > at : id < at)) continue;
          const name = nameOf(unit, String(id));
          if (!handled.has(name) && !failed.has(name)) complaints.push(`the checkpoint of ${unit} is at ${at}, and ${id} is not handled`);
        }
      }
    };
    const change = async (): Promise<void> => {
      const some = unsteady[below(unsteady.length)];
      if (!some) return;
      const query = some.shard.query('thing').where({ id: String(some.id) });
      const what = below(3);
      if (what === 0) await query.delete();
      else if (what === 1) await query.update({ mq_state: below(3) });
      else
        await some.shard
          .query('thing')
          .insert({ id: String(base + BigInt(1_000 + below(1_000_000))), mq_state: 0 })
          .onConflict('id')
          .ignore();
    };

    join();
    for (let step = 0; step < 40; step++) {
      await new Promise((resolve) => setTimeout(resolve, below(20)));
      await change();
      await look();
      const dice = random();
      if (dice < 0.1 && alive.size < 3) join();
      else if (dice < 0.15) await leave('stop');
      else if (dice < 0.2) await leave('cut off');
      if (alive.size === 0) join();
      // Every instance found the pass done: a further run would begin another.
      if ((await first.knex('scan_pass').first('ended_at'))?.ended_at) break;
    }
    await Promise.all([...alive.values()].map(({ ended }) => ended));
    await Promise.all(left);
    // The instance that left last may have left units open.
    if (!(await first.knex('scan_pass').first('ended_at'))?.ended_at) {
      const scan = suite.other(options);
      const { exitCode } = await scan.run();
      await suite.cutOff(scan);
      expect(exitCode, `seed ${seed}`).toBe(fails.size > 0 ? 1 : 0);
    }
    await look();
    expect(complaints, `seed ${seed}`).toEqual([]);
    const failures = new Set(
      (await first.knex('scan_failure').select('unit', 'row_key')).map(({ unit, row_key }) => nameOf(unit, JSON.parse(row_key)[0])),
    );
    const missed = known.map(({ shard, id }) => nameOf(shard.name, String(id))).filter((name) => !handled.has(name) && !failures.has(name));
    expect(missed, `seed ${seed}`).toEqual([]);
    expect(
      [...fails].filter((name) => !failures.has(name)),
      `seed ${seed}`,
    ).toEqual([]);
  };
});
