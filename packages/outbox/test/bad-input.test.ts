import { until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { beforeAll, describe, expect, it } from 'vitest';
import { bytesTopic, createOutbox, topic } from '../src/index.ts';
import { Recorder } from './recorder.ts';
import { onEveryDatabase, schemaOf, topics } from './suite.ts';

onEveryDatabase('bad input', (suite) => {
  const unsent = async () => Number((await suite.db.knex('outbox_message').count({ n: '*' }))[0]?.n);

  it('is refused with what to do, and nothing of the transaction is lost', async () => {
    const outbox = suite.outbox({ maxBodyBytes: 1_000 });
    // biome-ignore lint/suspicious/noExplicitAny: input that types would refuse
    const put = (trx: Knex.Transaction) => outbox.in(trx).put as any;
    const circular: Record<string, unknown> = { k: 'a', n: 1 };
    circular.self = circular;
    const good = { k: 'a', n: 1 };
    const nul = String.fromCharCode(0);
    const cases: [unknown[], string, RegExp][] = [
      [['nope', good], 'unknown-topic', /known are "keyed", "free"/],
      [['keyed', { k: 'a' }], 'invalid-payload', /field: must be a number/],
      [['keyed', { k: 'a', n: 1, text: 'x'.repeat(2_000) }], 'invalid-payload', /limit is 1000 \(maxBodyBytes\)/],
      [['keyed', { k: 'a', n: 1, text: '\ud800' }], 'invalid-payload', /lone surrogate/],
      [['keyed', { k: 'a', n: 1, text: nul }], 'invalid-payload', /NUL/],
      [['keyed', circular], 'invalid-payload', /JSON/],
      [['keyed', { k: `a${nul}`, n: 1 }], 'invalid-payload', /NUL/],
      [['keyed', { k: '', n: 1 }], 'invalid-argument', /key is ""/],
      [['keyed', { k: 'x'.repeat(192), n: 1 }], 'invalid-argument', /1 to 191/],
      [['keyed', good, { headers: { 'x-a': 'one\ntwo' } }], 'invalid-argument', /line breaks/],
      [['keyed', good, { headers: { 'X-A': 'one' } }], 'invalid-argument', /lower-case/],
      [['keyed', good, { headers: { ce_id: 'one' } }], 'invalid-argument', /ce_/],
      [['keyed', good, { id: '' }], 'invalid-argument', /id is ""/],
      [['keyed', good, { delay: -1 }], 'invalid-argument', /between 0 and ten years/],
      [['keyed', good, { delay: '1s', at: new Date() }], 'invalid-argument', /give one/],
      [['keyed', good, { at: new Date('never') }], 'invalid-argument', /valid Date/],
    ];
    await suite.db.knex.transaction(async (trx) => {
      for (const [args, code, text] of cases) {
        const error = await put(trx)(...args).catch((thrown: Error) => thrown);
        expect(error, String(text)).toMatchObject({ code });
        expect(error.message).toMatch(text);
      }
      await outbox.in(trx).put('keyed', { k: 'a', n: 1 });
    });
    expect(await unsent()).toBe(1);
  });

  it('put wants a transaction, or to be told that none is wanted', async () => {
    const outbox = suite.outbox();
    expect(() => outbox.in(suite.db.knex as unknown as Knex.Transaction)).toThrow(/needs the transaction/);
    let ended: Knex.Transaction | undefined;
    await suite.db.knex.transaction(async (trx) => {
      ended = trx;
    });
    expect(() => outbox.in(ended as Knex.Transaction)).toThrow(/after its transaction had ended/);
    await outbox.now().put('free', { n: 1 });
    expect(await unsent()).toBe(1);
  });

  it('is an option or a filter that does not exist', async () => {
    const outbox = suite.outbox();
    const items = [{ payload: { n: 1 }, id: 'lost' }].map((item) => item);
    await expect(outbox.now().putMany('free', items)).rejects.toThrow(/has no id; it has payload, options/);
    await expect(outbox.now().put('free', { n: 1 }, { dealy: '1s' } as never)).rejects.toThrow(/put has no dealy/);
    await expect(outbox.redrive({ topik: 'free' } as never, { actor: 'a', reason: 'r' })).rejects.toThrow(/has no topik/);
  });

  it('names what is missing in the options', async () => {
    expect(() => suite.outbox({ topics: {} as never })).toThrow(/topics is missing or empty/);
    expect(() => suite.outbox({ topics: { 'a b': topics.free } as never })).toThrow(/letters, digits/);
    expect(() => suite.outbox().relay()).toThrow(/needs a publisher/);
    expect(() => suite.outbox({ publisher: new Recorder() }).relay({ lease: '4s' })).toThrow(/at least twice/);
    expect(() => suite.outbox({ publisher: new Recorder() }).relay({ batch: 0 })).toThrow(/batch is 0/);
    await expect(suite.outbox().redrive({}, {}, undefined as never)).rejects.toThrow(/who does it and why/);
    await expect(suite.outbox().redrive({ id: 'x' }, {}, { actor: 'a', reason: 'b' })).rejects.toThrow(/id is "x"/);
    await expect(suite.outbox().list({ status: 'sent' })).rejects.toThrow(/one of waiting, parked, delayed, dead/);
    await expect(suite.inbox().once(suite.db.knex as never, { consumer: 'c', messageId: 'm' }, () => 1)).rejects.toThrow(/transaction/);
  });

  it('is a payload that no longer fits its schema once it is JSON', async () => {
    const dated = topic(
      schemaOf<{ at: unknown }>((value) => ((value as { at: unknown })?.at instanceof Date ? undefined : 'must be a Date')),
    );
    const outbox = suite.outbox({ topics: { dated } });
    const payload = { at: new Date() };
    await expect(outbox.now().put('dated', payload)).rejects.toThrow(/sent as JSON.*must be a Date/);
    await expect(outbox.now().putMany('dated', [{ payload }])).rejects.toMatchObject({ code: 'invalid-payload' });
    // forEach passes over a hole, as many schemas do; JSON writes null.
    const dense = topic(
      schemaOf<{ n: unknown[] }>((value) => {
        let unfit = false;
        (value as { n: unknown[] }).n.forEach((one) => {
          unfit ||= one === null;
        });
        return unfit ? 'must not be null' : undefined;
      }),
    );
    const holed = [1];
    holed[2] = 2;
    const outboxOfDense = suite.outbox({ topics: { dense } });
    await expect(outboxOfDense.now().put('dense', { n: holed })).rejects.toThrow(/sent as JSON.*must not be null/);
  });

  it('is a call of its own transaction inside an open one of SQLite', async () => {
    if (suite.db.name !== 'sqlite') return;
    const outbox = suite.outbox();
    for (const call of [
      () => outbox.now().put('free', { n: 1 }),
      () => outbox.now().put('free', { n: 1 }, { id: 'i' }),
      () => outbox.now().putMany('free', [{ payload: { n: 1 } }]),
      () => outbox.now().cancel('i'),
    ])
      await expect(suite.db.knex.transaction(async () => void (await call()))).rejects.toThrow(/inside an open transaction.*in\(trx\)/);
  });

  it('takes bytes as they are', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher, topics: { raw: bytesTopic({ contentType: 'application/x-protobuf' }) } });
    const body = Uint8Array.from({ length: 256 }, (_, i) => i);
    await expect(outbox.now().put('raw', 'text' as never)).rejects.toMatchObject({ code: 'invalid-payload' });
    await outbox.now().putMany('raw', [{ payload: body, options: { key: 'k' } }, { payload: body }]);
    const relay = suite.use(outbox.relay());
    await relay.start();
    await until(() => publisher.acked.length === 2);
    for (const message of publisher.acked) expect([...message.body]).toEqual([...body]);
    expect(publisher.acked.map(({ contentType }) => contentType)).toEqual(['application/x-protobuf', 'application/x-protobuf']);
  });
});

describe('a database that is not migrated', () => {
  let knex: Knex;
  beforeAll(async () => {
    const { openSqlite } = await import('@holdfast/core/sqlite');
    knex = openSqlite(':memory:');
  });
  it('is named by check', async () => {
    const outbox = createOutbox({ knex, topics: { free: topic(schemaOf()) } });
    await expect(outbox.check()).rejects.toMatchObject({ code: 'migration-required' });
    await outbox.close();
    await knex.destroy();
  });
});
