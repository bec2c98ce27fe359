import type { TestDatabase } from '@holdfast/core/testing';
import { ours } from './ours.ts';

/** Submit to start on an idle database, one at a time; and start of delayed rows against their due time at 1,000 a second. */
export async function latency(db: TestDatabase, json: boolean): Promise<number> {
  const biz = await ours(db.knex, { keep: 'none' });
  const starts = new Map<number, (at: number) => void>();
  const lags: number[] = [];
  biz.handle('step', (context) => {
    const at = performance.now();
    if (typeof context.due === 'number') lags.push(Date.now() - context.due);
    else starts.get(context.i as number)?.(at);
  });
  const worker = biz.worker();
  await worker.start();
  const quiet: number[] = [];
  for (let i = 0; i < 500; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5 + (i % 7)));
    const started = new Promise<number>((resolve) => starts.set(i, resolve));
    const submitted = performance.now();
    await biz.now().submit('step', { i });
    quiet.push((await started) - submitted);
  }
  const total = 10_000;
  for (let second = 1; second <= total / 1000; second++) {
    const now = Date.now();
    for (let slice = 0; slice < 10; slice++) {
      const delay = 2000 + second * 1000 + slice * 100;
      await biz.now().submitMany(
        'step',
        Array.from({ length: 100 }, () => ({ due: now + delay })),
        { delay },
      );
    }
  }
  while (lags.length < total) await new Promise((resolve) => setTimeout(resolve, 50));
  await worker.stop();
  await biz.close();
  const at = (values: number[], p: number): number => values.sort((a, b) => a - b)[Math.floor((values.length - 1) * p)] ?? Number.NaN;
  const figures = {
    submitToStartP50Ms: at(quiet, 0.5),
    submitToStartP99Ms: at(quiet, 0.99),
    delayedLagP50Ms: at(lags, 0.5),
    delayedLagP99Ms: at(lags, 0.99),
  };
  const rounded = Object.fromEntries(Object.entries(figures).map(([name, ms]) => [name, Number(ms.toFixed(2))]));
  if (json)
    console.log(
      JSON.stringify({
        bench: 'latency/postgres',
        unit: 'ms',
        ours: rounded.submitToStartP50Ms,
        raw: null,
        peers: {},
        vsBestPeer: null,
        vsRaw: null,
        ...rounded,
      }),
    );
  else console.log('\nlatency/postgres', rounded);
  return figures.submitToStartP50Ms;
}
