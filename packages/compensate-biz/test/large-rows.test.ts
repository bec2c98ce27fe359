import { expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

// 24 MB and 30 MB. MariaDB accepts 16 MiB in a statement, MySQL 64, older servers 1. Backslashes are the worst case of a text.
onEveryDatabase('rows that are together larger than a statement may be', (suite) => {
  const contexts = (count: number, bytes: number) => Array.from({ length: count }, (_, n) => ({ n, text: '\\'.repeat(bytes / 2) }));
  const stored = async (type: string) => {
    const rows = await suite.db.knex('compensate_biz').where({ biz_type: type }).orderBy('id').select('id', 'context');
    return rows.map(({ id, context }) => ({ id: String(id), n: JSON.parse(context).n as number }));
  };
  const inOrder = (count: number) => Array.from({ length: count }, (_, n) => n);

  it('are submitted, in their order, in both kinds of transaction', { timeout: 60_000 }, async () => {
    const biz = suite.create({ alone: bizType(any), joined: bizType(any), serial: bizType(any, { serial: true }) });
    const ids = await biz.now().submitMany('alone', contexts(400, 60_000));
    const rows = await stored('alone');
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(rows.map(({ n }) => n)).toEqual(inOrder(400));
    await suite.db.knex.transaction(async (trx) => {
      expect(await biz.in(trx).submitMany('joined', contexts(400, 60_000))).toHaveLength(400);
    });
    expect((await stored('joined')).map(({ n }) => n)).toEqual(inOrder(400));
  });

  it('are submitted one by one at the same time', { timeout: 60_000 }, async () => {
    const biz = suite.create({ single: bizType(any) });
    const submitted = await Promise.all(contexts(400, 60_000).map((context) => biz.now().submit('single', context)));
    const rows = new Map((await stored('single')).map(({ id, n }) => [id, n]));
    expect(submitted.map(({ id }) => rows.get(id))).toEqual(inOrder(400));
  });

  it('are the children of a fan-out', { timeout: 60_000 }, async () => {
    const biz = suite.create({ child: bizType(any) });
    const { total } = await biz.fanOut('child', contexts(1_000, 30_000), { key: 'large' });
    expect(total).toBe(1_000);
    expect((await stored('child')).map(({ n }) => n)).toEqual(inOrder(1_000));
  });

  it('are all there or none, if one of them can not be written', { timeout: 60_000 }, async () => {
    const biz = suite.create({ wholly: bizType(any) });
    const { knex } = suite.db;
    await knex.raw(
      suite.db.name === 'postgres'
        ? `ALTER TABLE compensate_biz ADD CONSTRAINT refused CHECK (biz_type <> 'wholly' OR context NOT LIKE '{"n":399%')`
        : suite.db.name === 'sqlite'
          ? `CREATE TRIGGER refused BEFORE INSERT ON compensate_biz WHEN new.biz_type = 'wholly' AND new.context LIKE '{"n":399%' BEGIN SELECT RAISE(ABORT, 'refused'); END`
          : `ALTER TABLE compensate_biz ADD CONSTRAINT refused CHECK (biz_type <> 'wholly' OR context NOT LIKE '{"n":399%')`,
    );
    await expect(biz.now().submitMany('wholly', contexts(400, 60_000))).rejects.toThrow(/refused/);
    expect(await stored('wholly')).toEqual([]);
  });
});
