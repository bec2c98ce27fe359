import { Database } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { bytesTopic } from '../src/index.ts';
import { Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('the memory of a relay', (suite) => {
  const raw = { raw: bytesTopic({ key: (bytes) => `k${bytes[0]}` }), loose: bytesTopic() };
  const mib = 2 ** 20;

  /** Puts `count` bodies; the relay's reads must stay within its window while the broker keeps it waiting. */
  it.each([
    { topic: 'raw', small: 0 },
    { topic: 'loose', small: 0 },
    // Small rows first, so that an average of the past says nothing of what comes.
    { topic: 'loose', small: 2_000 },
  ] as const)('holds at most 16 MiB of bodies: %o', { timeout: 60_000 }, async ({ topic, small }) => {
    const publisher = new Recorder();
    const outbox = suite.outbox({ publisher, topics: raw });
    if (small > 0)
      await outbox.now().putMany(
        'loose',
        Array.from({ length: small }, () => ({ payload: new Uint8Array(20) })),
      );
    const count = 300;
    await outbox.now().putMany(
      topic,
      Array.from({ length: count }, (_, n) => ({ payload: new Uint8Array(200_000).fill(n % 50) })),
    );
    let outside = 0;
    let most = 0;
    // What was read and is not published yet.
    const rows = Database.prototype.rows;
    Database.prototype.rows = async function patched<Row>(this: Database, sql: string, params?: readonly unknown[]): Promise<Row[]> {
      const read = await rows.call(this, sql, params);
      for (const row of read as { body?: Uint8Array }[]) outside += row.body?.byteLength ?? 0;
      most = Math.max(most, outside);
      return read as Row[];
    };
    try {
      const relay = suite.use(outbox.relay());
      publisher.pause = async () => {
        const batch = publisher.batches.at(-1) ?? [];
        await until(async () => true);
        for (const { body } of batch) outside -= body.byteLength;
      };
      await relay.start();
      await until(() => publisher.acked.length === count + small, { withinMs: 50_000 });
      await relay.stop();
    } finally {
      Database.prototype.rows = rows;
    }
    // A batch is counted out when it is sent, so a read may come in between.
    expect(most / mib).toBeLessThan(18);
    expect(new Set(publisher.acked.map(({ id }) => id)).size).toBe(count + small);
  });

  it('holds a few parked rows of a held key, and publishes them in order', { timeout: 60_000 }, async () => {
    const publisher = new Recorder();
    publisher.rule = ({ key }) => (key === 'k7' ? 'retriable' : 'acked');
    const outbox = suite.outbox({ publisher, topics: raw });
    const relay = suite.use(outbox.relay());
    await relay.start();
    await outbox.now().put('raw', new Uint8Array([7]));
    await outbox.now().put('raw', new Uint8Array([8]));
    await until(async () => (await outbox.stats()).heldKeys === 1);
    await outbox.now().putMany(
      'raw',
      Array.from({ length: 60 }, () => ({ payload: new Uint8Array(200_000).fill(7) })),
    );
    await until(async () => (await outbox.stats()).parked === 61);
    publisher.rule = () => 'acked';
    await outbox.release('raw', 'k7');
    await until(async () => (await outbox.stats()).heldKeys === 0, { withinMs: 30_000 });
    expect(publisher.acked.filter(({ key }) => key === 'k7')).toHaveLength(61);
  });
});
