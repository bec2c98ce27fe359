import type { Message, Publisher, PublishResult } from '@holdfast/broker';
import { brokerSchema, databaseBroker } from '@holdfast/broker/database';
import { checkpoint, coreSchema, every, silentLogger, wait } from '@holdfast/core';
import { createInbox, createOutbox, type Outbox, outboxSchema, topic } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { z } from 'zod';
import { insist, type Load, leaseMs, tally, type VictimSide, type World } from './load.ts';

/** Longer than a relay keeps a refused key in memory before it holds the key. */
const refusedForMs = 250;

const topics = { order: topic(z.object({ k: z.string(), n: z.number() }), { key: ({ k }) => k }) };

function open(knex: Knex, statementTimeout: '1s' | '5s', publisher?: Publisher): Outbox<typeof topics> {
  return createOutbox({ knex, topics, statementTimeout, logger: silentLogger, ...(publisher ? { publisher } : {}) });
}

/** Writes an order and its message in one transaction. A retry writes the same order and the same message. */
async function write(outbox: Outbox<typeof topics>, knex: Knex, k: string, n: number, delay?: number): Promise<void> {
  await knex.transaction(async (trx) => {
    await trx('orders')
      .insert({ id: `${k}:${n}` })
      .onConflict('id')
      .ignore();
    await checkpoint('writer:before-put');
    await outbox.in(trx).put('order', { k, n }, { id: `${k}:${n}`, ...(delay === undefined ? {} : { delay }) });
    await checkpoint('writer:before-commit');
  });
  await checkpoint('writer:after-commit');
}

/** Writes an order and rolls it back: its message must not be published. */
async function takeBack(outbox: Outbox<typeof topics>, knex: Knex, k: string, n: number): Promise<void> {
  const rollback = new Error('rolled back');
  await knex
    .transaction(async (trx) => {
      await trx('orders').insert({ id: `${k}:${n}` });
      await outbox.in(trx).put('order', { k, n }, { id: `${k}:${n}` });
      throw rollback;
    })
    .catch((error) => {
      if (error !== rollback) throw error;
    });
}

/**
 * Each order is written with a message. A relay publishes the messages to a broker that is a table, and consumers take effect through an
 * inbox. The messages of a key must be published in order, and each committed order must have one effect; others must have none.
 */
export const outboxLoad: Load = {
  name: 'outbox',
  schemas: [coreSchema, outboxSchema, brokerSchema],
  checkpoints: [
    { name: 'relay:before-publish' },
    { name: 'relay:after-publish' },
    { name: 'lane:before-remove' },
    { name: 'lane:after-remove' },
    { name: 'holds:before-write' },
    { name: 'holds:after-write' },
    { name: 'holds:before-unpark' },
    { name: 'delays:before-move' },
    { name: 'delays:after-move' },
    { name: 'inbox:started', hits: 5 },
    { name: 'inbox:committed', hits: 5 },
    { name: 'writer:before-put', mode: 'write', hits: 5 },
    { name: 'writer:before-commit', mode: 'write', hits: 5 },
    { name: 'writer:after-commit', mode: 'write', hits: 5 },
  ],
  controls: [
    { mode: 'ack-early', dieAt: 'lane:after-remove', sees: 'lost' },
    { mode: 'no-inbox', dieAt: 'effect:done', sees: 'duplicated' },
  ],
  async prepare({ knex }) {
    await knex.schema.createTable('effects', (t) => {
      t.increments('seen');
      t.string('effect_key');
    });
    await knex.schema.createTable('orders', (t) => {
      t.string('id').primary();
    });
  },
  async feed(world, signal) {
    const outbox = open(world.service, world.statementTimeout);
    const one = async (feeder: number): Promise<void> => {
      for (let n = 0; !signal.aborted; n++) {
        const late = n % 13 === 12;
        const k = late ? `late${feeder}` : `k${feeder}-${n % 5}`;
        if (n % 10 === 9) await insist(world, signal, () => takeBack(outbox, world.service, `back${feeder}`, n));
        const taken = await insist(world, signal, () => write(outbox, world.service, k, n, late ? 50 : undefined));
        if (taken) await world.oracle.notes.note('accepted', [`${k}:${n}`]);
        // No faster than the slowest database: otherwise a long lane would mostly wait until no work is left.
        await wait(8);
      }
    };
    try {
      await Promise.all([0, 1, 2, 3].map(one));
    } finally {
      await outbox.close();
    }
  },
  async quiet({ knex }) {
    let left = 0;
    for (const table of ['outbox_message', 'outbox_parked', 'outbox_delayed', 'broker_message'])
      left += Number((await knex(table).count({ n: '*' }))[0]?.n);
    return left === 0;
  },
  async judge({ knex, oracle }) {
    const accepted = oracle.read('accepted');
    const orders = new Set((await knex('orders').select('id')).map(({ id }) => id as string));
    const effects = tally((await knex('effects').select('effect_key')).map(({ effect_key }) => effect_key as string));
    const published = tally(oracle.read('effect'));
    const must = new Set([...orders, ...accepted]);
    return {
      accepted: must.size,
      effects: effects.size,
      lost: [...must].filter((id) => !effects.has(id)).length,
      duplicated: [...effects.values()].filter((n) => n > 1).length,
      repeated: [...published.values()].filter((n) => n > 1).length,
      wrong: [...effects.keys()].filter((id) => !orders.has(id)).length + outOfOrder(published.keys()),
    };
  },
};

/** The number of first publications that came after one with a higher number of the same key. Delayed messages have no order. */
function outOfOrder(ids: Iterable<string>): number {
  const last = new Map<string, number>();
  let count = 0;
  for (const id of ids) {
    const [key = '', n = ''] = id.split(':');
    if (key.startsWith('late')) continue;
    if (Number(n) < (last.get(key) ?? -1)) count += 1;
    else last.set(key, Number(n));
  }
  return count;
}

export const outboxVictim: VictimSide = async (config, knex, notes) => {
  const { mode, statementTimeout } = config;
  if (mode === 'write') return writer(knex, statementTimeout, notes);
  const broker = databaseBroker({ knex, leaseMs, statementTimeout, logger: silentLogger });
  // Some keys are refused at times, so that processes are also killed while they hold keys.
  const refusedUntil = new Map<string, number>();
  const publisher: Publisher = {
    prefixPerKey: broker.prefixPerKey,
    async publish(batch, options) {
      if (mode === 'ack-early') {
        // Broken on purpose: it acks before the broker has the messages.
        setTimeout(() => void broker.publish(batch).catch(() => undefined), 50);
        return batch.map((): PublishResult => ({ outcome: 'acked', at: {} }));
      }
      for (const { key = '' } of batch)
        if (key.endsWith('-4') && Math.random() < 0.03) refusedUntil.set(key, performance.now() + refusedForMs);
      const refusing = new Set([...refusedUntil].flatMap(([key, until]) => (performance.now() < until ? [key] : [])));
      const taken = batch.filter(({ key }) => !refusing.has(key ?? ''));
      const results = await broker.publish(taken, options);
      await notes.note(
        'effect',
        taken.filter((_, i) => results[i]?.outcome === 'acked').map(({ id }) => id),
      );
      let next = 0;
      return batch.map(({ key }): PublishResult => {
        const result = refusing.has(key ?? '') ? undefined : results[next++];
        return result ?? { outcome: 'retriable', error: { name: 'Error', message: 'refused' } };
      });
    },
    close: () => Promise.resolve(),
  };
  const effect = (message: Message, executor: Knex) => executor('effects').insert({ effect_key: message.id });
  const inbox = createInbox({ knex, statementTimeout, logger: silentLogger });
  const consumption =
    mode === 'no-inbox'
      ? await broker.subscribe(['order'], { group: 'billing', concurrency: 4 }, async ({ message }) => {
          await effect(message, knex);
          await checkpoint('effect:done');
          return { outcome: 'ack' };
        })
      : await inbox.consume({
          subscriber: broker,
          topic: 'order',
          consumer: 'billing',
          concurrency: 4,
          retry: every(20),
          maxStarts: 1_000,
          handler: async (message, trx) => {
            await effect(message, trx);
          },
        });
  const outbox = open(knex, statementTimeout, publisher);
  const relay = outbox.relay({ lease: leaseMs, publishTimeout: '300ms', batch: 50, hold: every('20ms') });
  await relay.start();
  return {
    async stop() {
      await relay.stop();
      await consumption.close();
      await outbox.close();
      await inbox.close();
      await broker.close();
    },
  };
};

/** A process that puts messages, to be killed while it does. */
async function writer(knex: Knex, statementTimeout: World['statementTimeout'], notes: Parameters<VictimSide>[2]) {
  const outbox = open(knex, statementTimeout);
  let over = false;
  const writing = (async () => {
    for (let n = 0; !over; n++) {
      const k = `w${process.pid}`;
      await write(outbox, knex, k, n);
      await notes.note('accepted', [`${k}:${n}`]);
      await wait(5);
    }
  })();
  return {
    async stop() {
      over = true;
      await writing;
      await outbox.close();
    },
  };
}
