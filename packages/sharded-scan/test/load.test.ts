import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { describe, expect, it } from 'vitest';
import { createTopology, openHours, type ScanProgress } from '../src/index.ts';
import { onEveryPair } from './suite.ts';

onEveryPair('a cap on a database', (suite) => {
  it('holds over all instances, and is given back by those that end', async () => {
    await suite.fill(60);
    const [walked, most] = [new Map<string, number>(), new Map<string, number>()];
    const instance = () =>
      suite.other({
        batch: 10,
        lease: '600ms',
        perDatabase: 4,
        maxPerDatabase: 1,
        process: async (_rows, { shard }) => {
          const now = (walked.get(shard.databaseName) ?? 0) + 1;
          walked.set(shard.databaseName, now);
          most.set(shard.databaseName, Math.max(now, most.get(shard.databaseName) ?? 0));
          await new Promise((resolve) => setTimeout(resolve, 5));
          walked.set(shard.databaseName, (walked.get(shard.databaseName) ?? 0) - 1);
        },
      });
    const results = await Promise.all([instance(), instance(), instance()].map((scan) => scan.run()));
    expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    expect([...most].sort()).toEqual([
      ['01', 1],
      ['02', 1],
    ]);
    expect(results[0]?.units.map(({ handled }) => handled)).toEqual(new Array(8).fill(60));
    const slots = await suite.databases[0].knex('holdfast_lease').where('scope', 'like', '% slots').whereNotNull('owner');
    expect(slots).toEqual([]);
    // The control: without the cap, the instances work on one database together.
    most.clear();
    const free = () => suite.other({ batch: 10, perDatabase: 4, process: () => undefined });
    const owned = free();
    let together = 0;
    let at = 0;
    owned.events.on('unit:started', () => {
      at += 1;
      together = Math.max(together, at);
    });
    owned.events.on('unit:ended', () => {
      at -= 1;
    });
    await owned.run();
    expect(together).toBeGreaterThan(2);
  });
});

onEveryPair('a cap on a database server', (suite) => {
  it.each([
    ['of one instance', { perDatabase: 1 }, 1],
    ['of all instances', { perDatabase: 4, maxPerDatabase: 1 }, 2],
  ] as const)('%s counts the units of all databases on it', async (_whose, caps, instances) => {
    await suite.fill(20);
    const servers = new Map(suite.topology.shards.map(({ databaseName, server }) => [databaseName, server]));
    const oneServer = servers.get('01') === servers.get('02');
    const [first, second] = suite.databases;
    // SQLite has no server: each file is for itself.
    expect(oneServer).toBe(first.name === second.name && first.name !== 'sqlite');
    const [walked, most] = [new Map<string, number>(), new Map<string, number>()];
    const process = async (_rows: unknown, { shard }: { readonly shard: { readonly server: string } }): Promise<void> => {
      walked.set(shard.server, (walked.get(shard.server) ?? 0) + 1);
      most.set(shard.server, Math.max(walked.get(shard.server) ?? 0, most.get(shard.server) ?? 0));
      await new Promise((resolve) => setTimeout(resolve, 10));
      walked.set(shard.server, (walked.get(shard.server) ?? 0) - 1);
    };
    const scans = Array.from({ length: instances }, () => suite.other({ batch: 10, lease: '600ms', process, ...caps }));
    for (const { exitCode } of await Promise.all(scans.map((scan) => scan.run()))) expect(exitCode).toBe(0);
    expect([...most].sort()).toEqual([...new Set(servers.values())].map((server) => [server, 1]).sort());
  });
});

describe('the server of a database', () => {
  const serverOf = (client: string, connection: unknown): string | undefined => {
    const knex = knexFactory({ client, connection: connection as never });
    return createTopology({ databases: { one: knex }, tables: 1 }).shards[0]?.server;
  };

  it('is its host and port, however they are given', () => {
    for (const connection of [
      'postgres://user:secret@DB1.example/orders',
      'postgres://db1.example:5432/other?sslmode=require',
      { connectionString: 'postgresql://db1.example/orders' },
      { host: 'db1.example', database: 'orders', password: 'secret' },
      { host: 'db1.example', port: 5_432 },
    ])
      expect(serverOf('pg', connection)).toBe('postgresql db1.example:5432');
    expect(serverOf('pg', { host: 'db1.example', port: 6_432 })).toBe('postgresql db1.example:6432');
    expect(serverOf('mysql2', 'mysql://user@localhost/orders')).toBe('mysql 127.0.0.1:3306');
    expect(serverOf('mysql2', { host: '127.0.0.1' })).toBe('mysql 127.0.0.1:3306');
    expect(serverOf('mysql2', { socketPath: '/run/mysqld.sock' })).toBe('mysql /run/mysqld.sock');
  });

  it('is the database itself where the address is not known', () => {
    expect(serverOf('pg', () => ({ host: 'db1.example' }))).toBe('one');
    expect(serverOf('pg', { database: 'orders' })).toBe('one');
  });
});

onEveryPair(
  'a scan that goes gently',
  (suite) => {
    it('handles no more rows per second than its rate, over all of its units', async () => {
      await suite.fill(25);
      let last = 0;
      const scan = suite.scan({ batch: 5, rate: 100, process: () => void (last = performance.now()) });
      const started = performance.now();
      await scan.run();
      // 200 rows; the turn of the last five begins after 1.95 s.
      expect(last - started).toBeGreaterThan(1_900);
      expect(last - started).toBeLessThan(6_000);
    });

    it('waits for every throttle, keeps its units meanwhile, and leaves at once when the run is aborted', async () => {
      await suite.fill(30);
      let open = false;
      let handled = 0;
      const asked = [0, 0];
      const scan = suite.scan({
        batch: 10,
        lease: '500ms',
        throttle: [
          () => {
            asked[0] = (asked[0] ?? 0) + 1;
            return open ? 0 : 50;
          },
          async () => {
            asked[1] = (asked[1] ?? 0) + 1;
            return 0;
          },
        ],
        process: (rows) => {
          handled += rows.length;
        },
      });
      const other = suite.other({
        batch: 10,
        process: (rows) => {
          handled += rows.length;
        },
      });
      const stop = new AbortController();
      const running = scan.run({ signal: stop.signal, only: '1' });
      await until(() => (asked[0] ?? 0) > 20 && (asked[1] ?? 0) > 20);
      // The wait is longer than the lease, and the units are still leased.
      await new Promise((resolve) => setTimeout(resolve, 800));
      const held = await suite.databases[0].knex('holdfast_lease').where({ scope: 'scan things' }).whereNotNull('owner');
      expect(held.filter(({ lease_until }) => Number(lease_until) > Date.now())).toHaveLength(2);
      expect(handled).toBe(0);
      const leaving = performance.now();
      stop.abort(new Error('enough'));
      expect(await running).toMatchObject({ exitCode: 75 });
      expect(performance.now() - leaving).toBeLessThan(2_000);
      open = true;
      expect(await scan.run({ only: '1' })).toMatchObject({ exitCode: 0, resumed: true });
      expect(await other.run({ only: '2' })).toMatchObject({ exitCode: 0 });
      expect(handled).toBe(240);
    });

    it('leaves its units when the run is aborted, though a throttle never answers', async () => {
      await suite.fill(5);
      let called = 0;
      const scan = suite.scan({
        throttle: () => {
          called += 1;
          return new Promise<number>(() => undefined);
        },
      });
      const stop = new AbortController();
      const running = scan.run({ signal: stop.signal });
      await until(() => called > 0);
      stop.abort(new Error('enough'));
      expect(await running).toMatchObject({ exitCode: 75 });
      expect(await suite.databases[0].knex('holdfast_lease').where({ scope: 'scan things' }).whereNotNull('owner')).toEqual([]);
    });

    it('handles no batch when the run is aborted while a throttle that would close is asked', async () => {
      await suite.fill(5);
      let [called, handled] = [0, 0];
      const answers: ((ms: number) => void)[] = [];
      const scan = suite.scan({
        throttle: () => {
          called += 1;
          return new Promise<number>((resolve) => answers.push(resolve));
        },
        process: (rows) => {
          handled += rows.length;
        },
      });
      const stop = new AbortController();
      const running = scan.run({ signal: stop.signal });
      await until(() => called > 0);
      stop.abort(new Error('enough'));
      expect(await running).toMatchObject({ exitCode: 75 });
      for (const answer of answers) answer(60_000);
      expect(handled).toBe(0);
    });

    it('fails the unit, with the error, when a throttle throws', async () => {
      await suite.fill(5);
      const scan = suite.scan({
        throttle: () => {
          throw new TypeError('replica is undefined');
        },
      });
      const { exitCode, units } = await scan.run();
      expect(exitCode).toBe(1);
      expect(units.every(({ state, error }) => state === 'failed' && error?.message === 'replica is undefined')).toBe(true);
    });

    it('reports the remaining rows, the speed and the start while it runs', async () => {
      await suite.fill(400);
      const seen: ScanProgress[] = [];
      const scan = suite.scan({
        batch: 20,
        perDatabase: 4,
        process: async () => {
          await new Promise((resolve) => setTimeout(resolve, 5));
          seen.push(await scan.progress());
        },
      });
      await scan.run();
      const middle = seen[Math.trunc(seen.length / 4)];
      const running = middle?.units.filter(({ state, examined }) => state === 'running' && examined > 0) ?? [];
      expect(running.length).toBeGreaterThan(0);
      for (const { examined, remaining, perSecond } of running) {
        // SQLite counts the rows; the others estimate.
        if (suite.databases[0].name === 'sqlite') expect(examined + (remaining ?? 0)).toBe(400);
        else expect(remaining).toBeGreaterThanOrEqual(0);
        expect(perSecond).toBeGreaterThan(0);
      }
      expect(middle?.pass).toBe('1');
      expect(Math.abs((middle?.startedAt?.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
      expect(middle?.endedAt).toBeUndefined();
      const end = await scan.progress();
      expect(end.endedAt).toBeInstanceOf(Date);
      expect(end.units.map(({ remaining, examined, perSecond }) => [remaining, examined, perSecond])).toEqual(
        new Array(8).fill([0, 400, 0]),
      );
    });
  },
  ['sqlite', 'postgres'],
);

describe('opening hours', () => {
  const at = (time: string, hours: string, timeZone?: string) =>
    openHours(hours, { now: () => new Date(time), ...(timeZone ? { timeZone } : {}) })();

  it('let a scan work between two times of the day, also over midnight, in their time zone', () => {
    expect(at('2026-01-05T22:00:00Z', '22:00-06:00')).toBe(0);
    expect(at('2026-01-06T05:59:59Z', '22:00-06:00')).toBe(0);
    expect(at('2026-01-06T06:00:00Z', '22:00-06:00')).toBe(60_000);
    expect(at('2026-01-06T12:00:30Z', '22:00-06:00')).toBe(30_000);
    expect(at('2026-01-06T21:59:59.500Z', '22:00-06:00')).toBe(500);
    expect(at('2026-01-06T09:00:00Z', '09:00-17:30')).toBe(0);
    expect(at('2026-01-06T17:30:00Z', '09:00-17:30')).toBeGreaterThan(0);
    // 22:00 in Berlin is 21:00 in winter and 20:00 in summer.
    expect(at('2026-01-06T21:00:00Z', '22:00-06:00', 'Europe/Berlin')).toBe(0);
    expect(at('2026-07-06T20:00:00Z', '22:00-06:00', 'Europe/Berlin')).toBe(0);
    expect(at('2026-01-06T20:30:00Z', '22:00-06:00', 'Europe/Berlin')).toBeGreaterThan(0);
  });

  it('refuse invalid times and time zones', () => {
    for (const hours of ['', '22-6', '24:00-06:00', '22:00-22:00', '22:60-06:00', 'always'])
      expect(() => openHours(hours), hours).toThrow(/two different times/);
    expect(() => openHours('22:00-06:00', { timeZone: 'Mars/Olympus' })).toThrow(/not a known time zone/);
  });
});
