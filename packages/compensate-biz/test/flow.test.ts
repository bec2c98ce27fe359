import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase(
  'flow under an old snapshot',
  (suite) => {
    it('reads each entry of the index of READY rows a few times, however many rows have gone', async () => {
      const biz = suite.create({ step: bizType(any, { keep: 'none' }) });
      const tenants = 3;
      const rows = 30_000;
      let done = 0;
      let room = (): void => undefined;
      biz.handle('step', () => undefined);
      biz.events.on('task:succeeded', () => {
        done += 1;
        room();
      });
      const other = suite.db.connect();
      const snapshot = await other.transaction({ isolationLevel: 'repeatable read' });
      await snapshot('compensate_biz').count();
      const worker = biz.worker();
      await worker.start();
      for (let submitted = 0; submitted < rows; ) {
        while (submitted - done > 1_000) await new Promise<void>((resolve) => (room = resolve));
        const batch = Array.from({ length: 500 }, (_, i) => ({ i }));
        await biz.now().submitMany('step', batch, { tenant: `t${(submitted / 500) % tenants}` });
        submitted += batch.length;
      }
      while (done < rows) await new Promise<void>((resolve) => (room = resolve));
      await worker.stop();
      await snapshot.commit();
      const { rows: usage } = await suite.db.knex.raw(
        "SELECT pg_stat_clear_snapshot(), (SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'compensate_biz_ready' AND schemaname = current_schema()) AS n",
      );
      // Without floors: more than 60 of each.
      expect(Number(usage[0].n) / rows).toBeLessThan(15);
    });
  },
  ['postgres'],
);

onEveryDatabase('flow', (suite) => {
  it('finds rows that appear below the rank up to which rows were claimed: late, urgent, of another tenant or type', async () => {
    const biz = suite.create({ m: bizType(any), a: bizType(any), z: bizType(any) });
    const ran: string[] = [];
    let heard = (): void => undefined;
    for (const type of ['m', 'a', 'z'] as const)
      biz.handle(type, (context) => {
        ran.push((context as { name: string }).name);
        heard();
      });
    await using worker = biz.worker();
    await worker.start();
    const all = async (names: readonly string[]): Promise<void> => {
      while (!names.every((name) => ran.includes(name))) await new Promise<void>((resolve) => (heard = resolve));
    };
    // As another process would, so that nothing tells the worker where to look.
    const insert = async (name: string, type: string, tenant: string, rank: number): Promise<void> => {
      await suite.db.knex('compensate_biz').insert({ biz_type: type, tenant, context: JSON.stringify({ name }), claim_rank: rank });
    };
    const now = Date.now();
    await insert('first', 'm', 'm', now);
    await all(['first']);
    await insert('late', 'm', 'm', now - 60_000);
    await insert('urgent', 'm', 'm', 1);
    for (const type of ['a', 'm', 'z']) for (const tenant of ['', 'a', 'z']) await insert(`${type}${tenant}`, type, tenant, now - 1_000);
    await all(['late', 'urgent', 'a', 'aa', 'az', 'm', 'ma', 'mz', 'z', 'za', 'zz']);
    expect(ran).toHaveLength(12);
  });
});
