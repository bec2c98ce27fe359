// A scan that tests kill. Arguments: the addresses of the two databases, the file to which it writes the handled ids, the checkpoint at
// which it kills itself, how many times that checkpoint must be reached first, and `wait` to start the run at a line of standard input.

import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { silentLogger } from '@holdfast/core';
import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import { createTopology, defineScan } from '../../src/index.ts';

const [first = '', second = '', file = '', dieAt = '', hits = '1', start = ''] = process.argv.slice(2);
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
    // One line per row, and one write per batch, which survives a kill of this process.
    appendFileSync(file, rows.map(({ id }) => `${unit.shard.name} ${id}\n`).join(''));
    await new Promise((resolve) => setTimeout(resolve, 2));
  },
});
if (start === 'wait') {
  process.stdout.write('ready\n');
  await once(process.stdin, 'data');
}
const { exitCode } = await scan.run();
await scan.close();
await one.destroy();
await two.destroy();
process.exit(exitCode);
