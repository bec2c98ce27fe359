import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wait } from '@holdfast/core';
import { seededRandom, until } from '@holdfast/core/testing';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { outOfOrder, Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

const relayCheckpoints = [
  'relay:before-publish',
  'relay:after-publish',
  'lane:before-remove',
  'lane:after-remove',
  'holds:before-write',
  'holds:after-write',
  'holds:before-unpark',
  'delays:before-move',
  'delays:after-move',
];
const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

onEveryDatabase('an outbox whose processes are killed', (suite) => {
  const children = new Set<ChildProcess>();
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-outbox-'));
  let files = 0;
  const start = (mode: string, broker: string, dieAt = '', hits = 1): ChildProcess => {
    const child = spawn(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'victim', 'victim.ts'),
        suite.db.address,
        mode,
        broker,
        dieAt,
        String(hits),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    children.add(child);
    child.on('exit', () => children.delete(child));
    return child;
  };
  const end = async (child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  };
  afterEach(async () => {
    for (const child of [...children]) await end(child, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  beforeAll(async () => {
    await suite.db.knex.schema.createTable('orders', (t) => {
      t.string('id').primary();
    });
  });
  const broker = (): string => {
    mkdirSync(folder, { recursive: true });
    return join(folder, `broker-${files++}`);
  };
  /** What the broker has, repeats left out: numbers by key. */
  const arrived = (file: string): { lists: Map<string, number[]>; ids: number; lines: number } => {
    const lists = new Map<string, number[]>();
    const seen = new Set<string>();
    const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
    for (const line of lines) {
      const [id = '', key = '', n = ''] = line.split(' ');
      if (seen.has(id)) continue;
      seen.add(id);
      const list = lists.get(key);
      if (list) list.push(Number(n));
      else lists.set(key, [Number(n)]);
    }
    return { lists, ids: seen.size, lines: lines.length };
  };
  const unsent = async (): Promise<number> => {
    let count = 0;
    for (const table of ['message', 'parked', 'delayed']) count += Number((await suite.db.knex(`outbox_${table}`).count({ n: '*' }))[0]?.n);
    return count;
  };

  it(
    'loses nothing and keeps the order of keys, killed at every checkpoint',
    async () => {
      const outbox = suite.outbox();
      const file = broker();
      let put = 0;
      for (let cycle = 0; cycle < cycles; cycle++) {
        for (const checkpoint of relayCheckpoints) {
          await outbox.now().putMany(
            'keyed',
            Array.from({ length: 60 }, () => ({ payload: { k: `k${put % 9}`, n: put++ } })),
          );
          await outbox.now().put('keyed', { k: `late${put}`, n: put++ }, { delay: 1 });
          const victim = start('relay', file, checkpoint, 1 + (cycle % 2));
          await Promise.race([once(victim, 'exit'), until(async () => (await unsent()) === 0, { withinMs: 15_000 })]);
          await end(victim, 'SIGKILL');
        }
      }
      const last = start('relay', file);
      await until(async () => (await unsent()) === 0, { withinMs: 30_000 });
      await end(last, 'SIGTERM');
      const { lists, ids } = arrived(file);
      expect(ids).toBe(put);
      expect(outOfOrder(lists)).toBe(0);
    },
    240_000 * Math.max(1, cycles / 3),
  );

  it(
    'keeps the order of each key under four relays that are killed and restarted at random',
    async () => {
      const random = seededRandom(Number(process.env.HOLDFAST_SEED ?? 11));
      const total = suite.db.name === 'postgres' ? 100_000 : 20_000;
      const outbox = suite.outbox();
      const file = broker();
      const relays = [0, 1, 2, 3].map(() => start('relay', file));
      const putting = (async () => {
        for (let n = 0; n < total; n += 500)
          await outbox.now().putMany(
            'keyed',
            Array.from({ length: 500 }, (_, i) => ({ payload: { k: `k${(n + i) % 1_000}`, n: n + i } })),
          );
      })();
      let kills = 0;
      let done = false;
      const killing = (async () => {
        while (!done) {
          await wait(100 + random() * 400);
          const at = Math.floor(random() * relays.length);
          const victim = relays[at];
          if (!victim || done) continue;
          await end(victim, 'SIGKILL');
          kills += 1;
          relays[at] = start('relay', file);
          // Long enough for what is left to get through, in the end.
          if (kills > cycles * 6) await wait(1_500);
        }
      })();
      await putting;
      await until(async () => (await unsent()) === 0, { withinMs: 200_000 });
      done = true;
      await killing;
      for (const relay of relays) await end(relay, 'SIGTERM');
      const { lists, ids, lines } = arrived(file);
      expect(kills).toBeGreaterThan(5);
      expect(ids).toBe(total);
      expect(lists.size).toBe(1_000);
      expect(outOfOrder(lists)).toBe(0);
      expect(lines).toBeGreaterThanOrEqual(total);
    },
    300_000 * Math.max(1, cycles / 3),
  );

  it('(control) loses messages when they are acked before the broker has them', async () => {
    const outbox = suite.outbox();
    const file = broker();
    let put = 0;
    for (let cycle = 0; cycle < 3; cycle++) {
      await outbox.now().putMany(
        'keyed',
        Array.from({ length: 300 }, () => ({ payload: { k: `k${put % 9}`, n: put++ } })),
      );
      await once(start('ack-early', file, 'lane:after-remove', 1), 'exit');
    }
    const last = start('relay', file);
    await until(async () => (await unsent()) === 0, { withinMs: 30_000 });
    await end(last, 'SIGTERM');
    expect(arrived(file).ids).toBeLessThan(put);
  });

  it(
    'has a message if and only if it has the row that it was put with, whoever is killed when',
    async () => {
      const publisher = new Recorder();
      await suite.db.knex('orders').delete();
      const points = ['writer:before-put', 'writer:before-commit', 'writer:after-commit'];
      for (let cycle = 0; cycle < cycles * 4; cycle++) {
        const victim = start('writer', '', cycle % 2 === 0 ? (points[cycle % 3] ?? '') : '', 1 + (cycle % 5));
        if (cycle % 2 === 0) await once(victim, 'exit');
        else {
          const before = Number((await suite.db.knex('orders').count({ n: '*' }))[0]?.n);
          await until(async () => Number((await suite.db.knex('orders').count({ n: '*' }))[0]?.n) > before + 3);
          await wait(cycle * 3);
          await end(victim, 'SIGKILL');
        }
      }
      const relay = suite.use(suite.outbox({ publisher }).relay());
      await relay.start();
      await until(async () => (await unsent()) === 0, { withinMs: 30_000 });
      const orders = (await suite.db.knex('orders').select('id')).map(({ id }) => id as string).sort();
      expect(orders.length).toBeGreaterThan(10);
      expect(publisher.acked.map(({ key }) => key ?? '').sort()).toEqual(orders);
    },
    120_000 * Math.max(1, cycles / 3),
  );
});
