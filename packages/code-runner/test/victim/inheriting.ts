// A service that runs one program in the local sandbox and prints its output. What this process inherited, the program must not get.

import { createHash } from 'node:crypto';
import { defaultRunLimits, defineLanguage } from '../../src/index.ts';
import { localSandbox } from '../../src/sandbox/index.ts';

const executor = localSandbox();
const { details } = await executor.probe();
const { signal } = new AbortController();
const spec = {
  runId: '1',
  attempt: 1,
  jobUid: createHash('md5').update('1').digest('hex'),
  taskId: '1',
  actor: 'alice',
  language: defineLanguage({ name: 'sh', template: { 'run.sh': '' }, main: 'run.sh', image: 'busybox', requires: [] }),
  command: ['/bin/sh', '-c', 'ls /proc/$$/fd; for n in 3 5 9 200; do ls /proc/$$/fd/$n/ 2>&1 || true; done'],
  limits: defaultRunLimits,
  files: [],
  dataSets: [],
};
await executor.start(spec, { signal });
process.stdout.write(`${JSON.stringify(details)}\n`);
for await (const { bytes } of executor.logs(spec, { after: null, signal })) process.stdout.write(bytes);
await executor.close();
