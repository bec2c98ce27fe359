import { memoryBroker } from '@holdfast/broker/memory';
import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('odd values', (suite) => {
  const by = { actor: 'ann', reason: 'odd' };

  it('are answered, or refused with an error that says so, wherever a caller names a message or a key', async () => {
    const outbox = suite.outbox({ publisher: memoryBroker() });
    const inbox = suite.inbox();
    await suite.db.knex.schema.createTable('tracked', (t) => {
      t.string('id').primary();
      t.integer('mq_state');
    });
    const tracked = outbox.track('tracked', { insertOnly: true, message: () => ({ topic: 'free', payload: {} }) });
    const inspect = outbox.inspect();
    const payload = { n: 1 };
    expect(
      await foreignErrors({
        'put topic': (topic) => outbox.now().put(topic, payload as never),
        ...Object.fromEntries(
          ['id', 'key', 'subject', 'tenant', 'headers', 'at', 'delay'].map((name) => [
            `put ${name}`,
            (value: never) => outbox.now().put('free', payload, { [name]: value }),
          ]),
        ),
        'putMany id': (id) => outbox.now().putMany('free', [{ payload, options: { id } }]),
        cancel: (id) => outbox.now().cancel(id),
        get: (id) => outbox.get(id),
        'release topic': (topic) => outbox.release(topic, 'k'),
        'release key': (key) => outbox.release('free', key),
        ...Object.fromEntries(
          ['kind', 'key', 'subject', 'tenant', 'status', 'after', 'limit'].map((name) => [
            `list ${name}`,
            (value: never) => outbox.list({ [name]: value }),
          ]),
        ),
        ...Object.fromEntries(
          ['topic', 'key', 'subject', 'tenant', 'id', 'reason', 'failedAfter'].map((name) => [
            `redrive ${name}`,
            (value: never) => outbox.redrive({ [name]: value }, { dryRun: true }),
          ]),
        ),
        'redrive actor': (actor) => outbox.redrive({ id: '1' }, { ...by, actor }),
        ...Object.fromEntries(Object.entries(inspect.actions).map(([name, act]) => [name, (target: never) => act(target, by)])),
        'track.publish': (id) => tracked.publish([id]),
        'track.in.publish': (id) => suite.db.knex.transaction((trx) => tracked.in(trx).publish(id)),
        'inbox.once consumer': (consumer) => suite.db.knex.transaction((trx) => inbox.once(trx, { consumer, messageId: 'm' }, () => 1)),
        'inbox.once messageId': (messageId) => suite.db.knex.transaction((trx) => inbox.once(trx, { consumer: 'c', messageId }, () => 1)),
        'inbox.parked': (consumer) => inbox.parked(consumer),
        'inbox.parked limit': (limit) => inbox.parked('c', limit),
      }),
    ).toEqual([]);
    await tracked.flush();
    await suite.db.knex.schema.dropTable('tracked');
  });
});
