import { type TestDatabase, until } from '@holdfast/core/testing';
import { ours } from './ours.ts';

/** The campaign: each member gets two coupons, cut into rows by `fanOut`, one `grants` row each in the batch's own commit. */
export async function coupons(db: TestDatabase, members: number, json: boolean): Promise<number> {
  await db.knex.schema.createTable('grants', (t) => {
    t.bigIncrements('granted');
    t.bigInteger('member').notNullable();
    t.integer('coupon').notNullable();
  });
  const biz = await ours(db.knex, { keep: 'none' });
  biz.handleBatch('grant', { size: 500 }, (items, batch) =>
    batch.commit((trx) =>
      db.name === 'postgres'
        ? trx.raw('INSERT INTO grants (member, coupon) SELECT * FROM unnest(?::bigint[], ?::int[])', [
            items.map((item) => String(item.context.member)),
            items.map((item) => item.context.coupon as number),
          ])
        : trx.raw(
            `INSERT INTO grants (member, coupon) VALUES ${items.map(() => '(?, ?)').join(', ')}`,
            items.flatMap((item) => [String(item.context.member), item.context.coupon as number]),
          ),
    ),
  );
  async function* source() {
    for (let member = 1; member <= members; member++) for (let coupon = 1; coupon <= 2; coupon++) yield { member, coupon };
  }
  const worker = biz.worker();
  await worker.start();
  const startRss = process.memoryUsage().rss;
  let peak = startRss;
  const sampling = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 200);
  const started = performance.now();
  const { parentId, total } = await biz.fanOut('grant', source(), { key: 'campaign', chunk: 1000 });
  const parent = await until(
    async () => {
      const row = await db.knex('compensate_biz').where({ id: parentId, status: 'SUCCESS' }).first();
      return row ?? undefined;
    },
    { withinMs: 1_800_000 },
  );
  const seconds = (performance.now() - started) / 1000;
  clearInterval(sampling);
  await worker.stop();
  await biz.close();
  const [{ count }] = (await db.knex('grants').count({ count: '*' })) as [{ count: string | number }];
  const exact = Number(count) === members * 2 && JSON.parse(parent.context).done === members * 2 && total === members * 2;
  const mibPerMillion = (peak - startRss) / 2 ** 20 / ((members * 2) / 1e6);
  const line = {
    bench: `coupons/${db.name}`,
    unit: 'rows/s',
    ours: Math.round((members * 2) / seconds),
    raw: null,
    peers: {},
    vsBestPeer: null,
    vsRaw: null,
    seconds: Number(seconds.toFixed(1)),
    rows: members * 2,
    exact,
    memoryGrowthMibPerMillion: Number(mibPerMillion.toFixed(1)),
  };
  if (json) console.log(JSON.stringify(line));
  else console.log(`\n${line.bench}`, line);
  if (!exact) throw new Error('the campaign was not exact');
  return line.ours;
}
