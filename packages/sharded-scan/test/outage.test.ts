import { setCheckpointHook, silentLogger } from '@holdfast/core';
import { type ThroughProxy, throughProxy, until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { afterEach, expect, it } from 'vitest';
import { createTopology, defineScan, type Scan } from '../src/index.ts';
import { onEveryPair, type Thing } from './suite.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3) * 4;

onEveryPair(
  'a scan over connections that break',
  (suite) => {
    const opened: { close(): Promise<unknown> }[] = [];
    afterEach(async () => {
      setCheckpointHook(undefined);
      for (const one of opened.splice(0).reverse()) await one.close();
    });
    /** A proxy to a database whose connections can be cut. */
    const through = async (address: string): Promise<ThroughProxy> => {
      const made = await throughProxy(address);
      opened.push(made);
      return made;
    };
    const scanOver = (state: Knex, second: Knex, options: object = {}): Scan<Thing> => {
      const scan = defineScan<Thing>({
        name: 'things',
        topology: createTopology({ databases: { '01': suite.databases[0].knex, '02': second }, tables: 4 }),
        table: 'thing',
        key: ['id'],
        where: (q) => q.where('mq_state', 0).orWhere('mq_state', 2),
        process: () => undefined,
        state,
        lease: '1s',
        outage: '500ms',
        logger: silentLogger,
        ...options,
      });
      opened.push(scan);
      return scan;
    };

    it('counts each batch once, though answers to its checkpoints are lost', async () => {
      await suite.fill(100);
      const { proxy, knex } = await through(suite.databases[0].address);
      let cuts = 0;
      // The checkpoint reaches the server, which writes it; the answer is lost.
      setCheckpointHook((name) => {
        if (name !== 'scan:before-checkpoint' || cuts >= cycles) return;
        cuts += 1;
        proxy.cutReplyAfter(0);
      });
      const times = new Map<string, number>();
      const scan = scanOver(knex, suite.databases[1].knex, {
        batch: 10,
        outage: '20s',
        process: (rows: readonly Thing[]) => {
          for (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1);
        },
      });
      const { exitCode, units } = await scan.run();
      expect(cuts).toBe(cycles);
      expect(exitCode).toBe(0);
      expect(units.map(({ examined, matched, handled }) => [examined, matched, handled])).toEqual(new Array(8).fill([100, 100, 100]));
      expect(times.size).toBe(800);
      // If a lease expired before it could be renewed, one batch more is replayed.
      expect([...times.values()].filter((n) => n > 1).length).toBeLessThan(cycles * 4 * 10);
    }, 60_000);

    it('leaves the units of an unavailable database to the next run, with exit code 75', async () => {
      await suite.fill(50);
      const { proxy, knex } = await through(suite.databases[1].address);
      proxy.set('refuse');
      const scan = scanOver(suite.databases[0].knex, knex);
      const { exitCode, units } = await scan.run();
      expect(exitCode).toBe(75);
      expect(units.map(({ unit, state }) => `${unit} ${state}`)).toEqual([
        ...['01.000', '01.001', '01.002', '01.003'].map((unit) => `${unit} done`),
        ...['02.000', '02.001', '02.002', '02.003'].map((unit) => `${unit} running`),
      ]);
      expect(units.filter(({ error }) => error?.message).map(({ unit }) => unit)).toEqual(['02.000', '02.001', '02.002', '02.003']);
      proxy.set('none');
      const again = await scan.run();
      expect(again).toMatchObject({ exitCode: 0, resumed: true });
      expect(again.units.map(({ handled, error }) => [handled, error])).toEqual(new Array(8).fill([50, undefined]));
    }, 60_000);

    it('continues when the state database is available again', async () => {
      await suite.fill(200);
      const { proxy, knex } = await through(suite.databases[0].address);
      let [handled, away] = [0, false];
      const scan = scanOver(knex, suite.databases[1].knex, {
        batch: 10,
        outage: '20s',
        process: async (rows: readonly Thing[]) => {
          handled += rows.length;
          await new Promise((resolve) => setTimeout(resolve, 5));
        },
      });
      const running = scan.run();
      await until(() => handled > 300);
      proxy.set('refuse');
      proxy.reset();
      away = true;
      // Longer than the lease: the scan must not continue meanwhile.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      const stopped = handled;
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(away && handled).toBe(stopped);
      proxy.set('none');
      const { exitCode, units } = await running;
      expect(exitCode).toBe(0);
      expect(units.map(({ handled }) => handled)).toEqual(new Array(8).fill(200));
    }, 60_000);
  },
  ['postgres', 'mariadb', 'mysql'],
);
