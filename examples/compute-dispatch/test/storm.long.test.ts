import { join } from 'node:path';
import { testDialects } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { Storm } from './storm/storm.ts';

const seed = Number(process.env.HOLDFAST_SEED ?? 1);
/** Two minutes with what it takes to start, and to come to rest. `npm run chaos` gives more. */
const seconds = Number(process.env.HOLDFAST_STORM_SECONDS ?? 60);
const { HOLDFAST_KAFKA_BROKERS: kafka, HOLDFAST_RABBITMQ_URL: rabbitmq } = process.env;
/** One of the server databases of this run, since a storm takes five minutes: MySQL where it is, else PostgreSQL, else MariaDB. */
const up = testDialects().map(({ name }) => name);
const databases = (['mysql', 'postgres', 'mariadb'] as const).filter((name) => up.includes(name)).slice(0, 1);

describe.runIf(databases.length > 0 && kafka && rabbitmq).each(databases)('four processes, two tenants, and a storm on %s', (database) => {
  it('keep every invariant, whatever is killed, lost, repeated and late', async () => {
    const result = await new Storm({ database, seed, seconds, workers: 4, servers: true, rest: true }).run();
    console.log(`storm of ${seconds} s on ${database}, seed ${seed}:`, JSON.stringify(result.counts));
    expect(result.verdicts.filter(({ holds }) => !holds)).toEqual([]);
    expect(result.verdicts).toHaveLength(10);
    expect(result.lost).toEqual([]);
    expect(result.lateResults).toBe(0);
    expect(result.stillLeased).toBe(0);
    expect(result.acknowledged.size).toBeGreaterThan(20);
    for (const fault of ['worker killed', 'worker frozen', 'database killed', 'Kafka killed'])
      expect(result.counts[fault] ?? 0, fault).toBeGreaterThan(0);
  }, 1_800_000);

  it('see it where the fence is off: events of another epoch are counted for whoever has the machine', async () => {
    const hook = join(import.meta.dirname, 'fence-off.ts');
    const result = await new Storm({ database, seed, seconds: 20, workers: 2, machines: 16, servers: false, rest: false, hook }).run();
    const broken = result.verdicts.filter(({ holds }) => !holds).map(({ id }) => id);
    console.log('without the fence:', broken.join(' '));
    expect(broken).toContain('I8');
  }, 600_000);
});
