// A worker that tests kill. Arguments: the database's address, the receiver's port, the checkpoint to die at, at which time it is
// reached, and by how much the database's clock is moved, in ms.

import { silentLogger } from '@holdfast/core';
import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import { createNotifier } from '../../src/index.ts';
import { keys } from '../suite-keys.ts';

const [address = '', port = '', dieAt = '', hits = '1', offsetMs = '0'] = process.argv.slice(2);
dieAtCheckpoint(dieAt, hits);
const notifier = createNotifier({
  knex: connectTestDatabase(address),
  logger: silentLogger,
  keys: (ref) => keys[ref],
  egress: { allowHttp: true, allowCidrs: ['127.0.0.0/8'], allowPorts: [Number(port)] },
});
notifier.database.clockOffsetMs = Number(offsetMs);
const worker = notifier.worker({ lease: '600ms' });
await worker.start();
process.once('SIGTERM', async () => {
  await notifier.close();
  process.exit(0);
});
