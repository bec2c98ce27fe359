import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ack, type Message, type Publisher } from '@holdfast/broker';
import { platformaticKafka } from '@holdfast/broker/platformatic-kafka';
import { coreSchema, migrate, silentLogger, uuidv7 } from '@holdfast/core';
import { type TestDatabase, testDialects, until } from '@holdfast/core/testing';
import { createExecutor } from '@holdfast/xxl-job';
import { adminDouble } from '@holdfast/xxl-job/testing';
import { Admin } from '@platformatic/kafka';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTopology, defineScan, type Scan, scanSchema } from '../src/index.ts';

const brokers = process.env.HOLDFAST_KAFKA_BROKERS;

interface Export extends Record<string, unknown> {
  readonly id: string;
  readonly u_id: string;
  readonly order_id: string;
  readonly award_id: string;
  readonly award_type: number;
  readonly award_name: string;
  readonly award_content: string;
}

/** The message that the invoice system reads. */
function toMessage(row: Export): Message {
  const invoice = {
    uId: row.u_id,
    orderId: row.order_id,
    awardId: row.award_id,
    awardType: row.award_type,
    awardName: row.award_name,
    awardContent: row.award_content,
  };
  return {
    id: `invoice-${row.order_id}`,
    topic: 'lottery_invoice',
    key: row.u_id,
    headers: {},
    body: Buffer.from(JSON.stringify(invoice)),
    contentType: 'application/json',
  };
}

/**
 * The job of a lottery: when the admin triggers it, it finds tickets in 2 x 4 tables that were not sent, by their `mq_state`, and sends
 * them.
 */
describe.runIf(brokers).each(
  testDialects().flatMap((dialect) => [
    { dialect, name: `${dialect.name}, tables 000 to 003`, from: 0 },
    { dialect, name: `${dialect.name}, tables 001 to 004`, from: 1 },
  ]),
)('invoices of a lottery on $name', ({ dialect, from }) => {
  let databases: readonly [TestDatabase, TestDatabase];
  let folder: string;
  let kafka: ReturnType<typeof platformaticKafka>;
  let scan: Scan<Export>;
  const suffix = (table: number): string => `_${String(table + from).padStart(3, '0')}`;
  beforeAll(async () => {
    databases = [await dialect.create(), await dialect.create()];
    folder = mkdtempSync(join(tmpdir(), 'holdfast-lottery-'));
    await migrate(databases[0].knex, [coreSchema, scanSchema]);
    for (const { knex } of databases)
      for (let table = 0; table < 4; table++)
        await knex.schema.createTable(`user_strategy_export${suffix(table)}`, (t) => {
          t.bigIncrements('id');
          t.string('u_id', 64).notNullable();
          t.bigInteger('order_id').notNullable();
          t.string('award_id', 32).notNullable();
          t.integer('award_type').notNullable();
          t.string('award_name', 64).notNullable();
          t.string('award_content', 128).notNullable();
          t.integer('mq_state').notNullable().defaultTo(0);
          t.dateTime('create_time').notNullable();
        });
    const admin = new Admin({ clientId: 'lottery', bootstrapBrokers: [String(brokers)] });
    // Another of these tests may have created the topic.
    await admin.createTopics({ topics: ['lottery_invoice'], partitions: 4, replicas: 1 }).catch(() => undefined);
    await admin.close();
    kafka = platformaticKafka({ brokers: [String(brokers)], logger: silentLogger });
  });
  afterAll(async () => {
    await scan?.close();
    await kafka?.close();
    for (const one of databases ?? []) await one.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('that were not sent are sent when the admin triggers the job for their database, exact and keyed by user, and are marked', async () => {
    const user = `u-${uuidv7()}`;
    const received: Message[] = [];
    await kafka.subscribe(['lottery_invoice'], { group: `invoices-${uuidv7()}` }, async ({ message }) => {
      if (message.key === user) received.push(message);
      return ack;
    });
    const publisher: Publisher = kafka;
    const [first, second] = databases;
    const topology = createTopology({ databases: { '01': first.knex, '02': second.knex }, tables: 4, suffix });
    scan = defineScan<Export>({
      name: 'invoice-mq',
      topology,
      table: 'user_strategy_export',
      key: ['id'],
      where: (q, now) => q.where('mq_state', 2).orWhere((w) => w.where('mq_state', 0).where('create_time', '<', now.minus('30m'))),
      state: first.knex,
      logger: silentLogger,
      process: async (rows, unit) => {
        const results = await publisher.publish(rows.map(toMessage));
        const acked = (i: number): boolean => results[i]?.outcome === 'acked';
        await unit.update(
          rows.filter((_, i) => acked(i)),
          { mq_state: 1 },
          { where: { mq_state: [0, 2] } },
        );
      },
    });
    await using admin = await adminDouble('2.3');
    await using executor = createExecutor({
      admins: [admin.url],
      appName: 'lottery',
      accessToken: 'default_token',
      port: 0,
      folder,
      logger: silentLogger,
      handlers: {
        lotteryOrderMQStateJobHandler: async (param, { log, signal }) => {
          const { units, exitCode } = await scan.run({ only: param, signal });
          for (const { unit, examined, matched, handled } of units)
            log(`database ${unit.split('.')[0]}, table ${unit.split('.')[1]}: ${examined} scanned, ${matched} to be sent, ${handled} sent`);
          if (exitCode !== 0) throw new Error(`the scan ended with ${exitCode}`);
        },
      },
    });
    await executor.start();
    const row = (table: number, orderId: string, mq_state: number, create_time = new Date()) => ({
      table: `user_strategy_export${suffix(table)}`,
      values: {
        u_id: user,
        order_id: orderId,
        award_id: '5',
        award_type: 1,
        award_name: '平板',
        award_content: 'Code',
        mq_state,
        create_time,
      },
    });
    // Failed once, 2^60 and more; just written; sent; left from an hour ago, in the last table; and one of the other database.
    for (const [knex, { table, values }] of [
      [first.knex, row(1, '1454351703703945216', 2)],
      [first.knex, row(1, '1454351703703945217', 0)],
      [first.knex, row(2, '1454351703703945218', 1)],
      [first.knex, row(3, '1454351703703945219', 0, new Date(Date.now() - 3_600_000))],
      [second.knex, row(0, '1454351703703945220', 2)],
    ] as const)
      await knex(table).insert(values);

    await admin.trigger(executor.address, { jobId: 3, logId: 31, handler: 'lotteryOrderMQStateJobHandler', param: '1' });
    const end = await until(() => admin.callbacks[0], { withinMs: 30_000 });
    expect(end).toEqual({ logId: '31', code: 200, msg: '' });
    await until(() => received.length === 2, { withinMs: 30_000 });
    const bodies = received.map(({ body }) => JSON.parse(Buffer.from(body).toString()) as Record<string, unknown>);
    expect(bodies.find(({ orderId }) => orderId === '1454351703703945216')).toEqual({
      awardContent: 'Code',
      awardId: '5',
      awardName: '平板',
      awardType: 1,
      orderId: '1454351703703945216',
      uId: user,
    });
    expect(bodies.map(({ orderId }) => orderId).sort()).toEqual(['1454351703703945216', '1454351703703945219']);
    const state = async (knex: TestDatabase['knex'], table: number) =>
      (
        await knex(`user_strategy_export${suffix(table)}`)
          .orderBy('id')
          .select('mq_state')
      ).map(({ mq_state }) => Number(mq_state));
    expect([await state(first.knex, 1), await state(first.knex, 2), await state(first.knex, 3), await state(second.knex, 0)]).toEqual([
      [1, 0],
      [1],
      [1],
      [2],
    ]);
    const { logContent } = await admin.log(executor.address, 31);
    for (const [table, counts] of [
      [0, '0 scanned, 0 to be sent, 0 sent'],
      [1, '2 scanned, 1 to be sent, 1 sent'],
      [2, '1 scanned, 0 to be sent, 0 sent'],
      [3, '1 scanned, 1 to be sent, 1 sent'],
    ] as const)
      expect(logContent).toContain(`database 01, table ${suffix(table).slice(1)}: ${counts}`);
    expect(logContent).not.toContain('database 02');

    // A parameter that names no database is reported to the admin, and nothing is done.
    await admin.trigger(executor.address, { jobId: 3, logId: 32, handler: 'lotteryOrderMQStateJobHandler', param: '3' });
    const refused = await until(() => admin.callbacks[1]);
    expect(refused).toMatchObject({ logId: '32', code: 500, msg: expect.stringContaining('databases 1 to 2') });
  }, 90_000);
});
