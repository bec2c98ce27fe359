// A worker that tests kill. Arguments: address of the database, the executor (`sandbox`, or a kubeconfig's file and its namespace), the
// checkpoint to die at, and at which time it is reached.

import { silentLogger } from '@holdfast/core';
import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import { createCodeRunner, python } from '../../src/index.ts';
import { kubernetes } from '../../src/kubernetes/index.ts';
import { localSandbox } from '../../src/sandbox/index.ts';

const [address = '', where = 'sandbox', namespace = '', dieAt = '', hits = '1'] = process.argv.slice(2);
dieAtCheckpoint(dieAt, hits);
const runner = createCodeRunner({
  knex: connectTestDatabase(address),
  languages: [python()],
  executor: where === 'sandbox' ? localSandbox() : kubernetes({ namespace, kubeConfig: where, idle: 2_000, logger: silentLogger }),
  pools: { small: { slots: 3 } },
  logger: silentLogger,
});
await runner.worker({ lease: 900, sweep: 300, grace: 300 }).start();
process.stdout.write('up\n');
setInterval(() => undefined, 1_000);
