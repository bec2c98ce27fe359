import { Database, WorkTable } from '@holdfast/core';
import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { bizTable } from '../src/table/biz-table.ts';
import { seedRows } from './seed.ts';
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
      // Without floors: 82 of each; with them 6 to 17, the more the slower the machine.
      expect(Number(usage[0].n) / rows).toBeLessThan(30);
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

  it('finds a new type behind a type whose rows stay, as those of a paused type do', async () => {
    const names = ['p', 'p', 'q', 'r'];
    await suite.db.knex('compensate_biz').insert(names.map((biz_type, i) => ({ biz_type, tenant: `t${i}`, context: '{}' })));
    const database = new Database({ knex: suite.db.knex });
    const table = new WorkTable(database, bizTable(database).shape);
    const floors = [{ kind: 'a', group: '', rank: 1 }];
    const found = async (standing: readonly string[]) => (await table.ready({ floors, standing })).map(({ kind, group }) => kind + group);
    expect(await found([])).toEqual(['pt0']);
    expect(await found(['p'])).toEqual(['pt0', 'qt2']);
    expect(await found(['q', 'p', 'a'])).toEqual(['pt0', 'qt2', 'rt3']);
    await database.close();
  });
});

onEveryDatabase(
  'a claim of given rows',
  (suite) => {
    it('goes by the primary key, with statistics taken when no row was READY', async () => {
      await seedRows(suite.db, 20_000, { biz_type: "'step'", context: "'{}'", status: "'SUCCESS'" });
      const statements: string[] = [];
      const database = new Database({ knex: suite.db.knex });
      const rows = database.rows.bind(database);
      database.rows = (sql, params) => {
        statements.push(sql);
        return rows(sql, params);
      };
      await new WorkTable(database, bizTable(database).shape).claimIds(['1', '2'], { kind: 'step', owner: 'o', leaseMs: 1_000 });
      const { rows: plan } = await suite.db.knex.raw(
        `EXPLAIN ${database
          .sql(statements[0] ?? '')
          .replace('= ANY(?::bigint[])', "= ANY('{1,2}'::bigint[])")
          .replace('+ ?', '+ 1')
          .replace('owner = ?', "owner = 'o'")
          .replace('biz_type = ?', "biz_type = 'step'")}`,
      );
      const text = JSON.stringify(plan);
      expect(text).toMatch(/compensate_biz_pkey/);
      expect(text).not.toMatch(/compensate_biz_ready/);
      await database.close();
    });
  },
  ['postgres'],
);
