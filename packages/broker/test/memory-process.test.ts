import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

it.each(['', "key: 'k', "])('a publish to the memory broker holds the process until its retry is through (%s)', (key) => {
  // Inside the package, so that its imports resolve.
  const folder = mkdtempSync(join(import.meta.dirname, '.program-'));
  try {
    const file = join(folder, 'program.ts');
    writeFileSync(
      file,
      `import { ack, retry } from '@holdfast/broker';
import { memoryBroker } from '@holdfast/broker/memory';
const broker = memoryBroker();
let deliveries = 0;
await broker.subscribe(['t'], { group: 'g' }, async () => (++deliveries === 1 ? retry(300) : ack));
const message = { id: '1', topic: 't', ${key}headers: {}, body: Buffer.from('x'), contentType: 'text/plain' };
console.log((await broker.publish([message]))[0]?.outcome, deliveries);
`,
    );
    const args = ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', file];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 50_000 });
    expect(`${status} ${stdout}${stderr}`.trim()).toBe('0 acked 2');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
