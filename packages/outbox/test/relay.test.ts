import { every, LeaseTable, monotonicMs, setCheckpointHook, wait } from '@holdfast/core';
import { recordLog, startStopStress, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { outOfOrder, Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('the relay', (suite) => {
  const empty = async (): Promise<boolean> => {
    for (const table of ['message', 'parked', 'held', 'delayed'])
      if (Number((await suite.db.knex(`outbox_${table}`).count({ n: '*' }))[0]?.n) > 0) return false;
    return true;
  };

  it('publishes what was committed, whole, and nothing that was rolled back', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    await relay.start();
    await suite.db.knex.transaction(async (trx) => {
      await outbox.in(trx).put('keyed', { k: 'a', n: 1 }, { headers: { 'x-tenant': 'blue' }, subject: 'order-1' });
      await outbox.in(trx).put('free', { n: 2 });
    });
    await suite.db.knex
      .transaction(async (trx) => {
        await outbox.in(trx).put('keyed', { k: 'a', n: 3 });
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await outbox.now().put('keyed', { k: 'a', n: 4 });
    await until(() => publisher.acked.length === 3);
    await until(empty);
    const [first] = publisher.acked.filter(({ topic }) => topic === 'keyed');
    expect(first).toMatchObject({ topic: 'keyed', key: 'a', contentType: 'application/json' });
    expect(first?.headers).toMatchObject({ 'x-tenant': 'blue', ce_subject: 'order-1' });
    expect(Math.abs(Date.now() - Date.parse(first?.headers.ce_time ?? ''))).toBeLessThan(60_000);
    expect(publisher.byKey()).toEqual(
      new Map([
        ['a', [1, 4]],
        ['', [2]],
      ]),
    );
  });

  it('keeps the order of each key, one batch of a key at a time', async () => {
    for (const prefixPerKey of [false, true]) {
      const publisher = new Recorder({ prefixPerKey });
      const outbox = suite.outbox({ publisher });
      await outbox.now().putMany(
        'keyed',
        Array.from({ length: 3_000 }, (_, n) => ({ payload: { k: `k${n % 37}`, n } })),
      );
      const relay = suite.use(outbox.relay({ batch: 100 }));
      await relay.start();
      await until(() => publisher.acked.length >= 3_000);
      await until(empty);
      await relay.stop();
      expect(publisher.acked).toHaveLength(3_000);
      expect(outOfOrder(publisher.byKey())).toBe(0);
    }
  });

  it('holds a key that the broker refuses, in order, while the others go on', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ hold: every(200), batch: 50 }));
    const held: string[] = [];
    relay.events.on('message:held', ({ key }) => held.push(key ?? ''));
    publisher.rule = ({ key }) => (key === 'bad' ? 'retriable' : 'acked');
    await relay.start();
    for (let n = 0; n < 600; n += 3)
      await outbox
        .now()
        .putMany('keyed', [{ payload: { k: 'bad', n } }, { payload: { k: 'good', n } }, { payload: { k: `k${n % 7}`, n } }]);
    await until(() => publisher.acked.length === 400);
    await until(async () => Number((await suite.db.knex('outbox_parked').count({ n: '*' }))[0]?.n) === 200);
    expect(held).toContain('bad');
    expect((await outbox.stats()).heldKeys).toBe(1);
    publisher.rule = () => 'acked';
    await until(() => publisher.acked.length === 600);
    await until(empty);
    expect(outOfOrder(publisher.byKey())).toBe(0);
    await outbox.now().put('keyed', { k: 'bad', n: 1_000 });
    await until(() => publisher.acked.length === 601);
    expect(publisher.byKey().get('bad')?.at(-1)).toBe(1_000);
  });

  it('puts poison with the dead letters and goes on, and publishes it again on demand', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    const numberOf = (body: Uint8Array): number => (JSON.parse(Buffer.from(body).toString()) as { n: number }).n;
    publisher.rule = ({ body }) => (numberOf(body) === 1 ? 'poison' : 'acked');
    await relay.start();
    await outbox.now().putMany(
      'keyed',
      [0, 1, 2].map((n) => ({ payload: { k: 'a', n } })),
    );
    await outbox.now().put('free', { n: 1 });
    await until(() => publisher.acked.length === 2);
    await until(async () => (await outbox.stats()).dead === 2);
    const [dead] = await outbox.list({ status: 'dead', kind: 'keyed' });
    expect(dead).toMatchObject({ topic: 'keyed', message_key: 'a', reason: 'poison' });
    publisher.rule = () => 'acked';
    const by = { actor: 'alice', reason: 'schema is fixed' };
    expect(await outbox.redrive({ topic: 'keyed' }, { dryRun: true }, by)).toBe(1);
    expect(await outbox.redrive({}, {}, by)).toBe(2);
    await until(() => publisher.acked.length === 4);
    expect(publisher.byKey().get('a')).toEqual([0, 2, 1]);
    expect(publisher.acked.filter(({ headers }) => headers['x-redriven'] === '1')).toHaveLength(2);
    expect((await outbox.stats()).dead).toBe(0);
  });

  it('keeps later messages of a poisoned key back where that is asked for, and lets a redrive take its old place', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ onPoison: 'hold-key' }));
    let poisonous = true;
    publisher.rule = ({ body }) => (poisonous && Buffer.from(body).toString().includes('"n":1}') ? 'poison' : 'acked');
    await relay.start();
    await outbox.now().putMany(
      'keyed',
      [0, 1, 2, 3].map((n) => ({ payload: { k: 'a', n } })),
    );
    await outbox.now().put('keyed', { k: 'b', n: 9 });
    await until(async () => (await outbox.stats()).parked === 2);
    expect(publisher.acked).toHaveLength(2);
    poisonous = false;
    await outbox.redrive({ key: 'a' }, {}, { actor: 'alice', reason: 'fixed' });
    await until(() => publisher.acked.length === 5);
    expect(publisher.byKey().get('a')).toEqual([0, 1, 2, 3]);
    await until(empty);
  });

  it('does nothing at a second put with an id, also after the first was published and deleted', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    await relay.start();
    const put = () => suite.db.knex.transaction((trx) => outbox.in(trx).put('keyed', { k: 'a', n: 1 }, { id: 'order-1-paid' }));
    expect(await put()).toEqual({ id: 'order-1-paid', duplicate: false });
    expect(await put()).toEqual({ id: 'order-1-paid', duplicate: true });
    await until(() => publisher.acked.length === 1);
    await until(empty);
    expect(await put()).toEqual({ id: 'order-1-paid', duplicate: true });
    await outbox.now().put('keyed', { k: 'a', n: 2 });
    await until(() => publisher.acked.length === 2);
    expect(publisher.acked.map(({ id }) => id)).toContain('order-1-paid');
  });

  it('gives a held key up where its schedule ends, and counts it as dead until that is purged', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ hold: every(50).times(2) }));
    publisher.rule = ({ key }) => (key === 'bad' ? 'retriable' : 'acked');
    await relay.start();
    await outbox.now().put('keyed', { k: 'bad', n: 0 });
    // A refusal counts only while the broker accepts other messages.
    await until(async () => {
      await outbox.now().put('keyed', { k: 'good', n: 1 });
      return (await outbox.stats()).dead === 1;
    });
    const [dead] = await outbox.list({ status: 'dead', kind: 'keyed' });
    expect(dead).toMatchObject({ message_key: 'bad', reason: 'exhausted' });
    expect(await outbox.purge({ dead: '1h' })).toBe(0);
    await suite.db.knex('outbox_dead').update({ dead_at: 0 });
    expect(await outbox.purge({ dead: '1h' })).toBe(1);
    await until(empty);
  });

  it('publishes a held key at once when a person releases it', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ hold: every('1h') }));
    publisher.rule = ({ key }) => (key === 'bad' ? 'retriable' : 'acked');
    await relay.start();
    await outbox.now().putMany('keyed', [{ payload: { k: 'bad', n: 1 } }, { payload: { k: 'good', n: 2 } }]);
    await until(async () => (await outbox.stats()).parked === 1);
    publisher.rule = () => 'acked';
    expect(await outbox.release('keyed', 'unknown')).toBe(false);
    expect(await outbox.release('keyed', 'bad')).toBe(true);
    await until(() => publisher.acked.length === 2);
    await until(empty);
  });

  it('publishes a delayed message when it is due, by due time, and takes one back that is cancelled', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    await relay.start();
    const started = performance.now();
    await outbox.now().put('keyed', { k: 'a', n: 2 }, { delay: 600 });
    await outbox.now().put('keyed', { k: 'a', n: 1 }, { delay: 300 });
    const { id } = await outbox.now().put('keyed', { k: 'a', n: 3 }, { delay: 300 });
    await outbox.now().put('keyed', { k: 'a', n: 0 }, { at: new Date(Date.now() - 1_000) });
    expect((await outbox.get(id))?.status).toBe('delayed');
    expect(await outbox.now().cancel(id)).toBe(true);
    await until(() => publisher.acked.length === 3);
    expect(performance.now() - started).toBeGreaterThan(590);
    expect(performance.now() - started).toBeLessThan(2_500);
    expect(publisher.byKey().get('a')).toEqual([0, 1, 2]);
    expect(await outbox.now().cancel(id)).toBe(false);
  });

  it.each(['holds:before-release', 'holds:after-release'])(
    'goes on with a held key whose release fails at %s, and parks nothing without a hold meanwhile',
    async (where) => {
      const publisher = new Recorder();
      const outbox = suite.outbox({ publisher });
      const relay = suite.use(outbox.relay({ hold: every('20ms') }));
      await relay.start();
      publisher.rule = ({ key }) => (key === 'bad' ? 'retriable' : 'acked');
      await outbox.now().put('keyed', { k: 'bad', n: 0 });
      await outbox.now().put('keyed', { k: 'good', n: 0 });
      const count = async (table: string) => Number((await suite.db.knex(`outbox_${table}`).count({ n: '*' }))[0]?.n);
      await until(async () => (await count('held')) === 1 && (await count('parked')) === 1);
      let failed = false;
      const orphans: number[] = [];
      // At the first checkpoint the release rolls back; at the second it was committed, and the relay did not learn of it.
      setCheckpointHook(async (name) => {
        if (name === where && !failed) {
          failed = true;
          if (where === 'holds:after-release') {
            await outbox.now().put('keyed', { k: 'bad', n: 1 });
            await wait(300);
          }
          throw new Error('the connection broke');
        }
        if (name === 'holds:after-write' && failed && (await count('parked')) > 0) orphans.push(1 - (await count('held')));
      });
      try {
        publisher.rule = () => 'acked';
        await until(() => failed);
        await outbox.now().put('keyed', { k: 'bad', n: 2 });
        await until(empty);
        expect(publisher.byKey().get('bad')).toEqual(where === 'holds:after-release' ? [0, 1, 2] : [0, 2]);
        if (where === 'holds:after-release') expect(orphans.length).toBeGreaterThan(0);
        expect(orphans.filter((n) => n > 0)).toEqual([]);
      } finally {
        setCheckpointHook(undefined);
      }
    },
  );

  it('waits out a broker that takes nothing, and dead-letters and holds nothing', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    publisher.rule = () => 'retriable';
    await relay.start();
    for (let n = 0; n < 200; n++) await outbox.now().put('keyed', { k: `k${n % 10}`, n });
    await until(() => !relay.ready);
    publisher.rule = () => 'backpressure';
    await until(() => publisher.batches.length > 5);
    expect(await outbox.stats()).toMatchObject({ heldKeys: 0, dead: 0, parked: 0, unsent: 200 });
    publisher.rule = () => 'acked';
    await until(() => publisher.acked.length === 200);
    expect(outOfOrder(publisher.byKey())).toBe(0);
    expect(relay.ready).toBe(true);
  });

  it('stops and shouts when the broker says that a person must act, and goes on when one did', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ fatalRetry: 300 }));
    const events: string[] = [];
    relay.events.on('relay:fatal', ({ error }) => events.push(`fatal ${error.code}`));
    relay.events.on('relay:recovered', () => events.push('recovered'));
    publisher.rule = () => 'fatal';
    await relay.start();
    await outbox.now().put('keyed', { k: 'a', n: 1 });
    await until(() => events.length > 0);
    const tries = publisher.batches.length;
    expect(tries).toBe(1);
    publisher.rule = () => 'acked';
    await until(() => events.length === 2);
    expect(events).toEqual(['fatal fatal', 'recovered']);
    expect((await outbox.stats()).dead).toBe(0);
  });

  it('publishes at once when it is started again during a pause', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ fatalRetry: '1h' }));
    publisher.rule = () => 'fatal';
    await relay.start();
    await outbox.now().put('keyed', { k: 'a', n: 1 });
    await until(() => !relay.ready);
    await relay.stop();
    publisher.rule = () => 'acked';
    await relay.start();
    await until(() => publisher.acked.length === 1);
    await until(empty);
  });

  it('publishes again what a publisher that ignores its signal does not answer for', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay({ publishTimeout: 100 }));
    publisher.pause = () => (publisher.batches.length === 1 ? new Promise(() => undefined) : Promise.resolve());
    await relay.start();
    await outbox.now().put('keyed', { k: 'a', n: 1 });
    await until(() => publisher.acked.length === 1);
    await until(empty);
  });

  it('stops without a publish that does not end, and says which messages were left', async () => {
    const publisher = new Recorder();
    const log = recordLog();
    const outbox = suite.outbox({ publisher, logger: log });
    const relay = suite.use(outbox.relay({ lease: '2m', publishTimeout: '1m', stopTimeout: 50 }));
    publisher.pause = () => new Promise(() => undefined);
    await relay.start();
    const { id } = await outbox.now().put('keyed', { k: 'a', n: 1 });
    await until(() => publisher.batches.length === 1);
    const began = monotonicMs();
    await relay.stop();
    expect(monotonicMs() - began).toBeLessThan(5_000);
    const messages = [{ id, topic: 'keyed', key: 'a' }];
    expect(log.at('warn', 'a publish had not ended')).toMatchObject([{ fields: { count: 1, messages, stopTimeoutMs: 50 } }]);
    publisher.pause = async () => undefined;
    const other = suite.use(outbox.relay());
    await other.start();
    await until(() => publisher.acked.length === 1);
    await until(empty);
  });

  it('shares lanes with a relay that joins, and takes over those of one that leaves', async () => {
    const publisher = new Recorder();
    const [one, two] = [suite.outbox({ publisher }), suite.outbox({ publisher, knex: suite.db.connect() })];
    const first = suite.use(one.relay({ lease: 900, publishTimeout: 300 }));
    const second = suite.use(two.relay({ lease: 900, publishTimeout: 300 }));
    await first.start();
    await until(() => first.lanes.length === 32);
    await second.start();
    let n = 0;
    await until(async () => {
      await one.now().put('keyed', { k: `k${n % 50}`, n: n++ });
      return first.lanes.length === 16 && second.lanes.length === 16;
    });
    expect(new Set([...first.lanes, ...second.lanes]).size).toBe(32);
    await first.stop();
    await until(() => second.lanes.length === 32);
    await two.now().put('keyed', { k: 'last', n: n++ });
    await until(() => new Set(publisher.acked.map(({ id }) => id)).size === n);
    expect(outOfOrder(publisher.byKey())).toBe(0);
  });

  it('goes on with lanes that it was about to hand over, when who asked for them leaves', async () => {
    const publisher = new Recorder();
    const one = suite.outbox({ publisher });
    const first = suite.use(one.relay({ lease: 6_000, publishTimeout: 3_000 }));
    const members = new LeaseTable(one.database);
    await first.start();
    await until(() => first.lanes.length === 32);
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    publisher.pause = () => gate;
    const put = async () => {
      for (let n = 0; n < 200; n++) await one.now().put('keyed', { k: `k${n}`, n });
    };
    await put();
    await until(() => publisher.batches.length > 0);
    await members.heartbeat('outbox', 'other', 60_000);
    const owned = () => Array.from({ length: 32 }, (_, lane) => first.owns(lane)).filter(Boolean).length;
    await until(() => owned() === 16, { what: 'half of the lanes drain, and cannot' });
    await members.leave('outbox', 'other');
    const signsOfLife = async () => (await suite.db.knex('holdfast_member').max({ at: 'alive_until' }))[0]?.at;
    for (let beat = 0; beat < 2; beat++) {
      const before = await signsOfLife();
      await until(async () => (await signsOfLife()) !== before);
    }
    release();
    await until(() => first.lanes.length === 32 && owned() === 32);
    await put();
    await until(() => new Set(publisher.acked.map(({ id }) => id)).size === 400, { what: 'every lane publishes' });
    await until(empty);
    expect(outOfOrder(publisher.byKey())).toBe(0);
  });

  it('may be started and stopped by anybody at any time, and deletes what it publishes afterwards', async () => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher });
    const relay = suite.use(outbox.relay());
    await startStopStress(relay, { cycles: 3 });
    await relay.start();
    for (let n = 0; n < 20; n++) await outbox.now().put('keyed', { k: `k${n % 3}`, n });
    await until(() => new Set(publisher.acked.map(({ id }) => id)).size === 20);
    await until(empty);
    expect(outOfOrder(publisher.byKey())).toBe(0);
  });
});

// SQLite has one writer: its ids are committed in order.
onEveryDatabase(
  'the relay, with many writers',
  (suite) => {
    it('finds a lower id that is committed late, in the lane of a higher one', async () => {
      const publisher = new Recorder();
      const outbox = suite.outbox({ publisher });
      const relay = suite.use(outbox.relay());
      await relay.start();
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const late = suite.db.knex.transaction(async (trx) => {
        await outbox.in(trx).put('keyed', { k: 'same', n: 1 });
        await held;
      });
      await outbox.now().put('keyed', { k: 'same', n: 2 });
      await until(() => publisher.acked.length === 1);
      await outbox.now().put('keyed', { k: 'same', n: 3 });
      await until(() => publisher.acked.length === 2);
      release();
      await late;
      await until(() => publisher.acked.length === 3, { withinMs: 3_000 });
      expect(publisher.byKey().get('same')).toEqual([2, 3, 1]);
    });
  },
  ['postgres', 'mariadb', 'mysql'],
);
