// The configuration of `holdfast run` in the tests. The environment gives the addresses of the two databases and the ms per batch.
import { coreSchema, type HoldfastConfig, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { createTopology, defineScan, scanJob, scanSchema } from '../../src/index.ts';

const [one, two] = [connectTestDatabase(process.env.SCAN_FIRST ?? ''), connectTestDatabase(process.env.SCAN_SECOND ?? '')];
const scan = defineScan<{ id: string }>({
  name: 'things',
  topology: createTopology({ databases: { '01': one, '02': two }, tables: 4 }),
  table: 'thing',
  key: ['id'],
  where: (q) => q.where('mq_state', 0).orWhere('mq_state', 2),
  batch: 10,
  outage: '300ms',
  state: one,
  logger: silentLogger,
  process: async (rows) => {
    await new Promise((resolve) => setTimeout(resolve, Number(process.env.SCAN_MS ?? 0)));
    if (rows.some(({ id }) => id === process.env.SCAN_FAILS)) throw new Error(`there is no customer of ${process.env.SCAN_FAILS}`);
  },
});
const config: HoldfastConfig = {
  knex: one,
  schemas: [coreSchema, scanSchema],
  jobs: { things: scanJob(scan) },
  close: async () => {
    await scan.close();
    await two.destroy();
  },
};
export default config;
