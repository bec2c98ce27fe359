// A scan that tests kill. Arguments: addresses of the two databases, the file where it notes what it handles, the checkpoint to die at, and
// at which time it is reached.

import { appendFileSync } from 'node:fs';
import { silentLogger } from '@holdfast/core';
import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import { createTopology, defineScan } from '../../src/index.ts';

const [first = '', second = '', file = '', dieAt = '', hits = '1'] = process.argv.slice(2);
dieAtCheckpoint(dieAt, hits);
const [one, two] = [connectTestDatabase(first), connectTestDatabase(second)];
const scan = defineScan<{ id: string }>({
  name: 'things',
  topology: createTopology({ databases: { '01': one, '02': two }, tables: 4 }),
  table: 'thing',
  key: ['id'],
  where: (q) => q.where('mq_state', 0).orWhere('mq_state', 2),
  batch: 10,
  lease: '500ms',
  state: one,
  logger: silentLogger,
  process: async (rows, unit) => {
    // One line a row, in one write a batch: it outlives this process.
    appendFileSync(file, rows.map(({ id }) => `${unit.shard.name} ${id}\n`).join(''));
    await new Promise((resolve) => setTimeout(resolve, 2));
  },
});
const { exitCode } = await scan.run();
await scan.close();
await one.destroy();
await two.destroy();
process.exit(exitCode);
