import { silentLogger } from '@holdfast/core';
import { defineScan, type Topology } from '@holdfast/sharded-scan';
import type { Knex } from 'knex';
import { Client } from 'pg';
import type { Tables } from './tables.ts';

const batch = 1_000;

/** Scanned rows per second, including rows that do not match. */
function rate(rows: number, started: number): number {
  return (rows / (performance.now() - started)) * 1_000;
}

/** A contestant: one pass over all rows. Its connections are open already, as in a service. */
export interface Contestant {
  pass(): Promise<number>;
  close(): Promise<void>;
}

/** Ours, with its leases and checkpoints, and nothing to do for each row. */
export function ours(tables: Tables, rows: number, matching: number): Contestant {
  let handled = 0;
  const scan = scanOf(tables.topology(), tables.databases[0].knex, (some) => {
    handled += some.length;
  });
  return {
    async pass() {
      handled = 0;
      const started = performance.now();
      const { exitCode } = await scan.run();
      const result = rate(rows, started);
      if (exitCode !== 0 || handled !== matching) throw new Error(`the scan handled ${handled} of ${matching}, exit code ${exitCode}`);
      return result;
    },
    close: () => scan.close(),
  };
}

export function scanOf(
  topology: Topology,
  state: Knex,
  process: (rows: readonly Record<string, unknown>[]) => void | Promise<void>,
  more: { readonly concurrency?: number; readonly batch?: number } = {},
) {
  return defineScan({
    name: 'invoices',
    topology,
    table: 'invoice',
    key: ['id'],
    where: (q) => q.where('mq_state', 0),
    batch,
    state,
    process,
    // Both databases are on one server here.
    perDatabase: 4,
    logger: silentLogger,
    ...more,
  });
}

/** The usual loop with pg: by key, several tables at a time, on a connection each. */
export async function keysetPg(tables: Tables, rows: number, matching: number, atOnce: number): Promise<Contestant> {
  const connect = async (address: string): Promise<Client> => {
    const url = new URL(address);
    const schema = url.searchParams.get('schema') ?? '';
    url.search = '';
    const client = new Client({ connectionString: url.href });
    await client.connect();
    await client.query(`SET search_path TO ${schema}`);
    return client;
  };
  const workers: Client[][] = [];
  for (let n = 0; n < atOnce; n++) {
    const clients: Client[] = [];
    for (const { address } of tables.databases) clients.push(await connect(address));
    workers.push(clients);
  }
  return {
    async pass() {
      let handled = 0;
      const todo = tables.databases.flatMap((_, database) => [0, 1, 2, 3].map((table) => ({ database, table })));
      const started = performance.now();
      const loop = async (clients: readonly Client[]): Promise<void> => {
        for (let next = todo.shift(); next; next = todo.shift())
          for (let after = '0'; ; ) {
            const result = await clients[next.database]?.query(
              `SELECT * FROM invoice_00${next.table} WHERE mq_state = 0 AND id > $1 ORDER BY id LIMIT ${batch}`,
              [after],
            );
            const found = result?.rows ?? [];
            handled += found.length;
            if (found.length < batch) break;
            after = found.at(-1).id;
          }
      };
      await Promise.all(workers.map(loop));
      if (handled !== matching) throw new Error(`the loop handled ${handled}`);
      return rate(rows, started);
    },
    async close() {
      for (const client of workers.flat()) await client.end();
    },
  };
}

/** The same with knex. */
export async function keysetKnex(tables: Tables, rows: number, matching: number): Promise<number> {
  let handled = 0;
  const started = performance.now();
  for (const { knex } of tables.databases)
    for (let table = 0; table < 4; table++)
      for (let after = '0'; ; ) {
        const found = await knex(`invoice_00${table}`).where('mq_state', 0).where('id', '>', after).orderBy('id').limit(batch);
        handled += found.length;
        if (found.length < batch) break;
        after = found.at(-1).id;
      }
  if (handled !== matching) throw new Error(`the loop handled ${handled}`);
  return rate(rows, started);
}

/** Page by page with OFFSET. */
export async function offsetPaging(tables: Tables, rows: number, matching: number): Promise<number> {
  let handled = 0;
  const started = performance.now();
  for (const { knex } of tables.databases)
    for (let table = 0; table < 4; table++)
      for (let offset = 0; ; offset += batch) {
        const found = await knex(`invoice_00${table}`).where('mq_state', 0).orderBy('id').limit(batch).offset(offset);
        handled += found.length;
        if (found.length < batch) break;
      }
  if (handled !== matching) throw new Error(`the loop handled ${handled}`);
  return rate(rows, started);
}

/** The time for all rows with several instances, in seconds, if the work on each batch takes 20 ms. */
export async function instances(tables: Tables, count: number): Promise<{ readonly seconds: number; readonly handled: number }> {
  let handled = 0;
  const scans = Array.from({ length: count }, () => {
    const { topology, state } = tables.other();
    return scanOf(
      topology,
      state,
      async (rows) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        handled += rows.length;
      },
      { concurrency: 1, batch: 200 },
    );
  });
  const started = performance.now();
  await Promise.all(scans.map((scan) => scan.run()));
  const seconds = (performance.now() - started) / 1_000;
  for (const scan of scans) await scan.close();
  return { seconds, handled };
}
