import { setCheckpointHook } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { adaptive, createTopology, type RowResult } from '../src/index.ts';
import { onEveryPair, type Thing } from './suite.ts';

onEveryPair('a scan', (suite) => {
  afterEach(() => setCheckpointHook(undefined));
  /** Counts how often each row is handed over. */
  const recorder = () => {
    const times = new Map<string, number>();
    return {
      times,
      record: (rows: readonly Thing[]) => {
        for (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1);
      },
    };
  };

  it('hands every matching row over once, by key, 64-bit values exact, and says how many there were', async () => {
    // Neighbouring ids that are equal as doubles.
    await suite.fill(250, 2, 9_007_199_254_740_993n);
    const { times, record } = recorder();
    const orders = new Map<string, string[]>();
    const scan = suite.scan({
      batch: 40,
      process: (rows, unit) => {
        record(rows);
        orders.set(unit.shard.name, [...(orders.get(unit.shard.name) ?? []), ...rows.map(({ id }) => id)]);
        for (const row of rows) expect([typeof row.id, row.order_id]).toEqual(['string', '1454351703703945216']);
      },
    });
    const result = await scan.run();
    expect(result).toMatchObject({ pass: '1', resumed: false, exitCode: 0 });
    expect(times.size).toBe(1_000);
    expect([...times.values()].every((n) => n === 1)).toBe(true);
    for (const list of orders.values()) expect(list).toEqual([...list].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)));
    expect(result.units.map(({ unit, state, examined, matched, handled }) => [unit, state, examined, matched, handled])).toEqual(
      ['01.000', '01.001', '01.002', '01.003', '02.000', '02.001', '02.002', '02.003'].map((unit) => [unit, 'done', 250, 125, 125]),
    );
    // The next pass walks the rows again.
    expect(await scan.run()).toMatchObject({ pass: '2', resumed: false });
    expect([...times.values()].every((n) => n === 2)).toBe(true);
  });

  it('fails a unit whose condition is made by an async function: what it adds later would be lost', async () => {
    await suite.fill(3, 1);
    const scan = suite.scan({ where: (() => Promise.reject(new Error('mine'))) as never, process: () => undefined });
    const result = await scan.run();
    expect(result.exitCode).toBe(1);
    expect(JSON.stringify(result.units)).toMatch(/where returned a promise/);
  });

  it('writes only rows that have not changed since they were read', async () => {
    await suite.fill(120, 1, 9_007_199_254_740_993n);
    const [first] = suite.databases;
    const scan = suite.scan({
      batch: 50,
      process: async (rows, unit) => {
        // Another writer changes one of the rows first.
        if (unit.shard.name === '01.000') await unit.shard.knex('thing_000').where({ id: rows[0]?.id }).update({ mq_state: 7 });
        const changed = await unit.update(rows, { mq_state: 1 }, { where: { mq_state: [0, 2] } });
        expect(changed).toBe(unit.shard.name === '01.000' ? rows.length - 1 : rows.length);
      },
    });
    expect((await scan.run()).exitCode).toBe(0);
    expect(await suite.count({ mq_state: 1 })).toBe(8 * 120 - 3);
    expect(Number((await first.knex('thing_000').where({ mq_state: 7 }).count({ n: '*' }))[0]?.n)).toBe(3);
    const blind = suite.other({ name: 'blind', process: (rows, unit) => unit.update(rows, { mq_state: 0 }) });
    await first.knex('thing_000').update({ mq_state: 0 });
    expect(await blind.run({ only: '1' })).toMatchObject({ exitCode: 1 });
    expect(await first.knex('scan_failure').where({ scan: 'blind' }).first('error')).toMatchObject({
      error: expect.stringContaining('version column'),
    });
  });

  it('finds the rows that fail, stores their errors, and handles the others', async () => {
    await suite.fill(100);
    const { times, record } = recorder();
    const failing = new Set(['7', '8', '77', '305']);
    const scan = suite.scan({
      batch: 32,
      process: (rows) => {
        if (rows.some(({ id }) => failing.has(id))) throw new Error(`no customer in a batch of ${rows.length}`);
        record(rows);
      },
    });
    const result = await scan.run();
    expect(result.exitCode).toBe(1);
    expect(result.units.reduce((sum, { failed }) => sum + failed, 0)).toBe(4);
    expect(times.size).toBe(800 - 4);
    expect([...times.values()].every((n) => n === 1)).toBe(true);
    const failures = await suite.databases[0].knex('scan_failure').orderBy('id');
    expect(failures.map(({ row_key }) => JSON.parse(String(row_key))[0]).sort()).toEqual([...failing].sort());
    expect(JSON.parse(String(failures[0]?.error))).toMatchObject({ name: 'Error', message: 'no customer in a batch of 1' });
    const each = suite.other({
      name: 'each',
      process: (rows): RowResult[] => rows.map(({ id }) => (failing.has(id) ? new Error('refused') : undefined)),
    });
    const again = await each.run();
    expect(again.units.map(({ handled, failed }) => handled + failed)).toEqual(new Array(8).fill(100));
    expect(again.exitCode).toBe(1);
  });

  it('keeps failures of ten passes', async () => {
    await suite.fill(1);
    const scan = suite.scan({
      process: () => {
        throw new Error('never');
      },
    });
    for (let pass = 1; pass <= 12; pass++) expect((await scan.run({ only: '1' })).exitCode).toBe(1);
    const passes = await suite.databases[0].knex('scan_failure').distinct('pass').orderBy('pass');
    expect(passes.map(({ pass }) => Number(pass))).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  it('blames no row for an outage, and continues after it', async () => {
    await suite.fill(30);
    let left = 3;
    const scan = suite.scan({
      process: () => {
        if (left-- > 0) throw Object.assign(new Error('the broker is away'), { code: 'ECONNREFUSED' });
      },
    });
    expect(await scan.run()).toMatchObject({ exitCode: 0 });
    expect(await suite.databases[0].knex('scan_failure')).toHaveLength(0);
    // Outages returned for single rows: only these rows are passed again.
    const { times, record } = recorder();
    let refusals = 5;
    const each = suite.other({
      name: 'each',
      process: (rows): RowResult[] => {
        record(rows);
        return rows.map(({ id }) => {
          if (id === '3') return new Error('there is no customer');
          return Number(id) % 10 === 0 && refusals-- > 0 ? Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }) : undefined;
        });
      },
    });
    const { exitCode, units } = await each.run();
    expect(exitCode).toBe(1);
    expect(units.reduce((sum, { handled }) => sum + handled, 0)).toBe(239);
    expect(await suite.databases[0].knex('scan_failure')).toHaveLength(1);
    expect([...times.values()].filter((n) => n > 1).length).toBe([...times].filter(([id, n]) => n > 1 && Number(id) % 10 === 0).length);
    expect([...times.values()].reduce((sum, n) => sum + n, 0)).toBe(240 + 5);
  });

  it('continues after its last checkpoint when it was stopped, and replays at most one batch of a unit', async () => {
    await suite.fill(400);
    const { times, record } = recorder();
    const stop = new AbortController();
    let batches = 0;
    const scan = suite.scan({
      batch: 20,
      process: (rows) => {
        record(rows);
        batches += 1;
        if (batches === 30) stop.abort(new Error('enough'));
      },
    });
    const first = await scan.run({ signal: stop.signal });
    expect(first).toMatchObject({ pass: '1', exitCode: 75 });
    expect(times.size).toBeLessThan(3_200);
    const second = await scan.run();
    expect(second).toMatchObject({ pass: '1', resumed: true, exitCode: 0 });
    expect(times.size).toBe(3_200);
    expect([...times.values()].every((n) => n === 1)).toBe(true);
  });

  it('is shared with instances that join and leave: each row at least once, twice only where a unit changed hands', async () => {
    await suite.fill(300);
    const { times, record } = recorder();
    const slow = async (rows: readonly Thing[]): Promise<void> => {
      record(rows);
      await new Promise((resolve) => setTimeout(resolve, 15));
    };
    const owners = new Map<string, Set<number>>();
    const instance = (n: number) => {
      const scan = (n === 0 ? suite.scan : suite.other)({ batch: 10, process: slow, perDatabase: 4, lease: '600ms' });
      scan.events.on('unit:started', ({ unit }) => owners.set(unit, (owners.get(unit) ?? new Set()).add(n)));
      return scan;
    };
    const [a, b, c] = [instance(0), instance(1), instance(2)];
    const stop = new AbortController();
    const first = a.run({ signal: stop.signal });
    await until(() => times.size > 100);
    const second = b.run();
    await until(() => [...owners.values()].some((set) => set.has(1)));
    const third = c.run();
    await until(() => [...owners.values()].some((set) => set.has(2)));
    stop.abort(new Error('leaves'));
    await first;
    const [two, three] = await Promise.all([second, third]);
    expect([two.exitCode, three.exitCode]).toEqual([0, 0]);
    expect(times.size).toBe(2_400);
    expect([...times.values()].filter((n) => n > 1)).toEqual([]);
  });

  it('loses its unit when its lease has expired, and its later checkpoints are refused', async () => {
    await suite.fill(60);
    const { times, record } = recorder();
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let blocked = false;
    const zombie = suite.scan({
      batch: 20,
      concurrency: 1,
      process: async (rows, unit) => {
        record(rows);
        if (unit.shard.name !== '01.000' || blocked) return;
        blocked = true;
        await gate;
      },
    });
    const lost: string[] = [];
    zombie.events.on('unit:ended', ({ unit, how }) => how === 'lost' && lost.push(unit));
    const running = zombie.run();
    await until(() => blocked);
    // Another owner takes the unit, under a newer epoch.
    await suite.databases[0]
      .knex('holdfast_lease')
      .where({ scope: 'scan things', name: '01.000' })
      .update({ lease_until: 1, owner: 'other' });
    let [goOn, reached] = [(): void => undefined, false];
    const later = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const other = suite.other({
      batch: 20,
      process: async (rows, unit) => {
        record(rows);
        // In the middle of the same unit, after its first checkpoint.
        if (unit.shard.name !== '01.000' || rows[0]?.id === '1') return;
        reached = true;
        await later;
      },
    });
    const ended = other.run();
    await until(() => reached);
    const now = () => suite.databases[0].knex('scan_unit').where({ unit: '01.000' }).first('handled', 'position', 'epoch');
    const before = await now();
    release();
    await until(() => lost.includes('01.000'));
    expect(await now()).toEqual(before);
    goOn();
    await running;
    const result = await ended;
    expect(result.exitCode).toBe(0);
    expect(result.units.find(({ unit }) => unit === '01.000')?.handled).toBe(60);
    expect(times.size).toBe(480);
    // The batch in progress is handled once more.
    expect([...times.values()].filter((n) => n > 1).length).toBeLessThanOrEqual(20);
  });

  it('skips none of 100,000 rows while others are changed, added and deleted', async () => {
    await suite.fill(12_500);
    const { times, record } = recorder();
    let [stop, changed] = [false, 0];
    const changing = (async () => {
      for (let n = 0; !stop; n++) {
        const shard = suite.topology.shards[n % 8];
        const id = (n * 7_919) % 100_000;
        // Rows that the test does not check are added and deleted among those that it does.
        const done = await Promise.all([
          shard
            ?.query('thing')
            .whereBetween('id', [id, id + 20])
            .increment('touched', 1),
          shard?.query('thing').insert({ id: String(1_000_000 + n), mq_state: 0 }),
          shard
            ?.query('thing')
            .where('id', 1_000_000 + n - 80)
            .delete(),
        ]);
        changed += done.length;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    const scan = suite.scan({
      batch: 250,
      window: 3_000,
      process: async (rows) => {
        record(rows);
        await new Promise((resolve) => setTimeout(resolve, 5));
      },
    });
    try {
      expect((await scan.run()).exitCode).toBe(0);
    } finally {
      stop = true;
      await changing;
    }
    expect(changed).toBeGreaterThan(60);
    expect(Array.from({ length: 100_000 }, (_, i) => String(i + 1)).filter((id) => times.get(id) !== 1)).toEqual([]);
    // Rows added after the pass began wait for the next pass: the bound of each unit was taken at its start.
    expect(times.size).toBeLessThan(100_000 + changed / 3);
  });

  it('adapts the batch size to the time that batches take, by at most a fifth', async () => {
    await suite.fill(600);
    const sizes: number[] = [];
    const scan = suite.scan({
      batch: adaptive({ targetMs: 20, min: 10, max: 1_000 }),
      concurrency: 1,
      process: async (rows, unit) => {
        if (unit.shard.name === '01.000') sizes.push(rows.length);
        await new Promise((resolve) => setTimeout(resolve, rows.length));
      },
    });
    await scan.run({ only: '1' });
    expect(sizes[0]).toBe(500);
    const [last] = sizes.slice(-1);
    expect(last).toBeLessThan(500);
    for (let i = 2; i < sizes.length - 1; i++) expect((sizes[i] ?? 0) / (sizes[i - 1] ?? 1)).toBeGreaterThan(0.79);
  });

  it('resumes a pass after the topology has changed, and drops units that no longer exist', async () => {
    await suite.fill(100);
    const stop = new AbortController();
    const { times, record } = recorder();
    const first = suite.scan({
      batch: 10,
      process: (rows) => {
        record(rows);
        if (times.size > 150) stop.abort(new Error('enough'));
      },
    });
    expect((await first.run({ signal: stop.signal })).exitCode).toBe(75);
    const [a, b] = suite.databases;
    const half = suite.other({ topology: createTopology({ databases: { '01': a.knex, '02': b.knex }, tables: 2 }), process: record });
    const result = await half.run();
    expect(result).toMatchObject({ resumed: true, exitCode: 0 });
    expect(result.units.map(({ unit }) => unit)).toEqual(['01.000', '01.001', '02.000', '02.001']);
    const whole = await suite.other({ name: 'whole', process: record }).run();
    expect(whole.units).toHaveLength(8);
  });

  it('takes only the units that its parameter or index names, and refuses parameters that name nothing before any work', async () => {
    await suite.fill(20);
    const { times, record } = recorder();
    const scan = suite.scan({ process: record });
    expect((await scan.run({ only: '2' })).units.map(({ unit }) => unit)).toEqual(['02.000', '02.001', '02.002', '02.003']);
    expect(times.size).toBe(80);
    for (const index of [0, 1, 2]) await scan.run({ shard: [index, 3] });
    expect(times.size).toBe(160);
    for (const only of ['', '0', '-1', '9', 'x', '1,,2'])
      await expect(scan.run({ only })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(scan.run({ shard: [3, 3] })).rejects.toThrow(/index from 0/);
    await expect(scan.run({ only: '1', shard: [0, 1] })).rejects.toThrow(/not both/);
    expect(() => suite.scan()).toThrow(/A scan named things exists already/);
    for (const options of [
      { key: [] },
      { key: ['id; DROP'] },
      { batch: 0 },
      { concurrency: 0 },
      { rate: 0 },
      { name: 'a b' },
      { lease: 'soon' },
      { table: 'x-y' },
    ])
      expect(() => suite.other({ name: 'bad', ...options } as never), JSON.stringify(options)).toThrow();
  });

  it('says how to fix a table that it cannot walk, and finishes the other units', async () => {
    await suite.fill(10);
    const [first, second] = suite.databases;
    await first.knex.schema.renameTable('thing_001', 'thing_gone');
    await second.knex.schema.createTable('loose_002', (t) => {
      t.increments('entry');
      t.bigInteger('id').nullable();
      t.integer('mq_state').defaultTo(0);
    });
    try {
      const result = await suite.scan().run();
      expect(result.exitCode).toBe(1);
      expect(result.units.filter(({ state }) => state === 'failed')).toMatchObject([
        { unit: '01.001', error: { code: 'not-scannable', message: expect.stringContaining('There is no table thing_001') } },
      ]);
      expect(result.units.filter(({ state }) => state === 'done')).toHaveLength(7);
      const loose = await suite.other({ name: 'loose', table: 'loose' }).run({ only: '2' });
      expect(loose.units.find(({ unit }) => unit === '02.002')?.error?.message).toMatch(/may be NULL/);
      await second.knex.schema.dropTable('loose_002');
      await second.knex.schema.createTable('loose_002', (t) => {
        t.increments('entry');
        t.bigInteger('id').notNullable();
        t.integer('mq_state').defaultTo(0);
      });
      const tied = await suite.other({ name: 'tied', table: 'loose' }).run({ only: '2' });
      expect(tied.units.find(({ unit }) => unit === '02.002')?.error?.message).toMatch(
        /CREATE UNIQUE INDEX loose_002_id ON loose_002 \(id\)/,
      );
    } finally {
      await first.knex.schema.renameTable('thing_gone', 'thing_001');
      await second.knex.schema.dropTableIfExists('loose_002');
    }
  });

  it('orders by several columns, up and down, with times to the microsecond', async () => {
    const tables: string[] = [];
    for (const shard of suite.topology.shards) {
      const table = shard.tableName('event');
      tables.push(table);
      await shard.knex.schema.createTable(table, (t) => {
        t.string('kind', 20).notNullable();
        if (suite.databases[shard.database - 1]?.name === 'sqlite') t.string('at', 40).notNullable();
        else t.specificType('at', suite.databases[shard.database - 1]?.name === 'postgres' ? 'TIMESTAMP(6)' : 'DATETIME(6)').notNullable();
        t.integer('mq_state').notNullable().defaultTo(0);
        t.primary(['kind', 'at']);
      });
      const rows = Array.from({ length: 60 }, (_, i) => ({
        kind: `k${i % 3}`,
        at: `2026-01-01 00:00:00.${String(100_000 + Math.trunc(i / 3)).padStart(6, '0')}`,
      }));
      await shard.knex(table).insert(rows);
    }
    try {
      for (const directions of [
        ['asc', 'asc'],
        ['desc', 'asc'],
        ['desc', 'desc'],
      ] as const) {
        const seen = new Map<string, string[]>();
        const scan = suite.other({
          name: `events-${directions.join('-')}`,
          table: 'event',
          key: [
            { column: 'kind', direction: directions[0] },
            { column: 'at', direction: directions[1] },
          ],
          batch: 7,
          process: (rows, unit) =>
            void seen.set(unit.shard.name, [...(seen.get(unit.shard.name) ?? []), ...rows.map(({ kind, at }) => `${kind} ${at}`)]),
        });
        expect((await scan.run()).exitCode).toBe(0);
        expect(seen.size).toBe(8);
        for (const list of seen.values()) expect(new Set(list).size).toBe(60);
      }
    } finally {
      for (const shard of suite.topology.shards) await shard.knex.schema.dropTableIfExists(shard.tableName('event'));
    }
  });
});
