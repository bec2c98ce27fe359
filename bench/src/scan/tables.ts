import { coreSchema, migrate } from '@holdfast/core';
import type { TestDatabase, TestDialect } from '@holdfast/core/testing';
import { createTopology, scanSchema, type Topology } from '@holdfast/sharded-scan';
import type { Knex } from 'knex';

/** Two databases of four tables, with rows of about 250 bytes. */
export interface Tables {
  readonly databases: readonly [TestDatabase, TestDatabase];
  topology(): Topology;
  /** Opens a topology with connections of its own, as another instance has, and the database of its state. */
  other(): { readonly topology: Topology; readonly state: Knex };
  drop(): Promise<void>;
}

/** @param everyNth one row of this many matches the scan */
export async function makeTables(postgres: TestDialect, rows: number, everyNth: number): Promise<Tables> {
  const databases = [await postgres.create(), await postgres.create()] as const;
  await migrate(databases[0].knex, [coreSchema, scanSchema]);
  for (const { knex } of databases)
    for (let table = 0; table < 4; table++) {
      const name = `invoice_00${table}`;
      await knex.raw(
        `CREATE TABLE ${name} (id BIGINT PRIMARY KEY, uid VARCHAR(40) NOT NULL, mq_state INTEGER NOT NULL, amount NUMERIC(12, 2) NOT NULL, create_time TIMESTAMPTZ NOT NULL DEFAULT now(), note TEXT NOT NULL)`,
      );
      await knex.raw(
        `INSERT INTO ${name} (id, uid, mq_state, amount, note) SELECT 1454351703703945216 + n, 'user-' || n, CASE WHEN n % ${everyNth} = 0 THEN 0 ELSE 1 END, n % 1000, repeat('x', 180) FROM generate_series(1, ${rows / 8}) AS n`,
      );
      await knex.raw(`VACUUM ANALYZE ${name}`);
    }
  const of = (one: Knex, two: Knex): Topology => createTopology({ databases: { '01': one, '02': two }, tables: 4 });
  return {
    databases,
    topology: () => of(databases[0].knex, databases[1].knex),
    other: () => {
      const state = databases[0].connect();
      return { topology: of(state, databases[1].connect()), state };
    },
    drop: async () => {
      for (const one of databases) await one.drop();
    },
  };
}
