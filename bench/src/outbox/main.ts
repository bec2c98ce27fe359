import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { rounds } from '../report/report.ts';
import type { BenchOptions } from '../tasks.ts';
import { naiveDrain, oursDrain, rawDrain } from './contestants.ts';
import { backlog, failingKeys, latency, latencyAcross, outage } from './lanes.ts';
import { type Bench, kafkaBench, rabbitmqBench } from './servers.ts';

/** Table to broker: messages per second against the usual loops, and against the broker's own client alone. */
export async function outbox(options: BenchOptions): Promise<void> {
  const wanted = (name: string): boolean => options.only === undefined || options.only.has(name);
  const up = (name: string) => {
    const found = testDialects().find((dialect) => dialect.name === name);
    if (!found) throw new Error(`${name} is not up; run npm run services:up and set its address`);
    return found;
  };
  const postgres = up('postgres');
  const { HOLDFAST_KAFKA_BROKERS: brokers, HOLDFAST_RABBITMQ_URL: rabbitUrl } = process.env;
  if (!brokers || !rabbitUrl) throw new Error('Kafka and RabbitMQ must be up; run npm run services:up and set their addresses');
  const servers: Record<string, () => Promise<Bench>> = {
    kafka: () => kafkaBench(brokers, 'kafkajs'),
    'platformatic-kafka': () => kafkaBench(brokers, 'platformatic'),
    rabbitmq: () => rabbitmqBench(rabbitUrl),
  };
  for (const [name, open] of Object.entries(servers)) {
    const on = async <T>(run: (db: TestDatabase, bench: Bench) => Promise<T>, database = postgres): Promise<T> => {
      const db = await database.create();
      const bench = await open();
      try {
        return await run(db, bench);
      } finally {
        await bench.close();
        await db.drop();
      }
    };
    for (const [kind, keys] of [
      ['keyed', 10_000],
      ['unkeyed', 0],
    ] as const) {
      // On Postgres with all clients; on MySQL, where the table costs more, with one client of each broker.
      for (const [bench, database] of [
        [`outbox-${kind}/${name}`, 'postgres'],
        ...(name === 'platformatic-kafka' ? [] : ([[`outbox-${kind}/mysql-${name}`, 'mysql']] as const)),
      ] as const) {
        if (!wanted(bench)) continue;
        const load = { n: 50_000, keys };
        const own = up(database);
        await rounds(
          bench,
          'messages/s',
          options.rounds,
          {
            ours: () => on((db, server) => oursDrain(db, server, load), own),
            raw: () => on((db, server) => rawDrain(db, server, load), own),
            'knex loop, confirm each': () => on((db, server) => naiveDrain(db, server, { ...load, n: 3_000 }, 100, 1), own),
            'knex loop, confirm per 100': () => on((db, server) => naiveDrain(db, server, { ...load, n: 20_000 }, 100, 100), own),
            'knex loop, confirm per 500': () => on((db, server) => naiveDrain(db, server, { ...load, n: 20_000 }, 500, 500), own),
          },
          options.json,
        );
      }
    }
    if (wanted(`outbox-latency/${name}`)) await on((db, bench) => latency(db, bench, 15_000, options.json));
    if (wanted(`outbox-latency-across/${name}`)) await on((db, bench) => latencyAcross(db, bench, options.json));
    if (wanted(`outbox-failing-keys/${name}`)) {
      await rounds(
        `outbox-failing-keys/${name}`,
        "messages/s of the keys that don't fail, ours with 5% of keys failing, raw with none",
        Math.min(3, options.rounds),
        { ours: () => on((db, bench) => failingKeys(db, bench, true)), raw: () => on((db, bench) => failingKeys(db, bench, false)) },
        options.json,
      );
    }
  }
  const alone = async (run: (db: TestDatabase) => Promise<void>): Promise<void> => {
    const db = await postgres.create();
    try {
      await run(db);
    } finally {
      await db.drop();
    }
  };
  if (wanted('outbox-outage/rabbitmq')) await alone((db) => outage(db, rabbitUrl, 60, options.json));
  if (wanted('outbox-backlog/postgres')) await alone((db) => backlog(db, options.backlog, options.json));
}
