import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { better, defineQueue, defineWorker } from 'plainjob';

/** plainjob on better-sqlite3 with `synchronous = NORMAL`. */
export async function plainjobDrain(n: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'plainjob-'));
  const database = new Database(join(folder, 'test.db'));
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
  const queue = defineQueue({ connection: better(database), logger: silent });
  queue.addMany(
    'step',
    Array.from({ length: n }, (_, i) => ({ i })),
  );
  let done = 0;
  let finished: () => void = () => undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const worker = defineWorker('step', async () => undefined, {
    queue,
    logger: silent,
    onCompleted: () => {
      if (++done === n) finished();
    },
  });
  const started = performance.now();
  void worker.start();
  await all;
  const rate = n / ((performance.now() - started) / 1000);
  await worker.stop();
  queue.close();
  rmSync(folder, { recursive: true, force: true });
  return rate;
}
