import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Message } from '@holdfast/broker';
import { brokerSchema, databaseBroker } from '@holdfast/broker/database';
import { migrate, silentLogger, wait } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { onEveryDatabase } from './suite.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

function message(id: string, key: string): Message {
  return { id, topic: 'orders', key, headers: { ce_time: new Date().toISOString() }, body: Buffer.from(id), contentType: 'text/plain' };
}

onEveryDatabase('a consumer that is killed', (suite) => {
  const children = new Set<ChildProcess>();
  const start = (mode: string, dieAt = '', hits = 1): ChildProcess => {
    const child = spawn(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'victim', 'consumer.ts'),
        suite.db.address,
        mode,
        dieAt,
        String(hits),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    children.add(child);
    child.on('exit', () => children.delete(child));
    return child;
  };
  beforeAll(async () => {
    await migrate(suite.db.knex, [brokerSchema]);
    await suite.db.knex.schema.createTable('effects', (t) => {
      t.string('message_id');
    });
  });
  beforeEach(async () => {
    for (const table of ['effects', 'broker_message', 'broker_group']) await suite.db.knex(table).delete();
  });
  afterEach(async () => {
    for (const child of [...children]) {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    }
  });
  const publish = async (batch: readonly Message[]): Promise<void> => {
    const broker = databaseBroker({ knex: suite.db.knex, logger: silentLogger });
    for (let from = 0; from < batch.length; from += 200) {
      const results = await broker.publish(batch.slice(from, from + 200));
      expect(results.every(({ outcome }) => outcome === 'acked')).toBe(true);
    }
    await broker.close();
  };
  const effects = async () => {
    const [row] = await suite.db.knex('effects').countDistinct({ distinct: 'message_id' }).count({ all: '*' });
    return { distinct: Number(row?.distinct), all: Number(row?.all) };
  };
  const left = async () => Number((await suite.db.knex('broker_message').count({ n: '*' }))[0]?.n);

  it(
    'loses no message and repeats no effect',
    async () => {
      const total = 400;
      await publish(Array.from({ length: total }, (_, n) => message(`m${n}`, `k${n % 40}`)));
      for (let cycle = 0; cycle < cycles * 4; cycle++) {
        const point = cycle % 2 === 0 ? 'inbox:committed' : 'inbox:started';
        const victim = start('inbox', point, 1 + ((cycle * 7) % 20));
        await Promise.race([once(victim, 'exit'), wait(4_000)]);
        if (victim.exitCode === null && victim.signalCode === null) {
          const exited = once(victim, 'exit');
          victim.kill('SIGKILL');
          await exited;
        }
      }
      start('inbox');
      start('inbox');
      await until(async () => (await left()) === 0, { withinMs: 60_000 });
      expect(await effects()).toEqual({ distinct: total, all: total });
    },
    180_000 * Math.max(1, cycles / 3),
  );

  it('(control) repeats effects without the inbox', async () => {
    const total = 60;
    await publish(Array.from({ length: total }, (_, n) => message(`m${n}`, `k${n}`)));
    for (let cycle = 0; cycle < 3; cycle++) await once(start('bare', 'inbox:committed', 5), 'exit');
    start('bare');
    await until(async () => (await left()) === 0, { withinMs: 60_000 });
    const { distinct, all } = await effects();
    expect(distinct).toBe(total);
    expect(all).toBeGreaterThan(total);
  }, 120_000);
});
