import { join } from 'node:path';
import { wait } from '@holdfast/core';
import { until, Victims } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { event, onEveryDatabase } from './suite.ts';

const checkpoints = [
  'route:before',
  'work:after-claim',
  'attempt:after-start',
  'attempt:before-send',
  'attempt:after-send',
  'attempt:before-end',
  'attempt:after-end',
  'work:before-settle',
  'work:after-settle',
];
const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

onEveryDatabase('a notifier whose processes are killed', (suite) => {
  const victims = new Victims(join(import.meta.dirname, 'victim', 'victim.ts'));
  afterEach(() => victims.end());
  const notifications = () => suite.db.knex('notifier_notification').orderBy('id') as Promise<Record<string, unknown>[]>;
  const attempts = () => suite.db.knex('notifier_attempt').orderBy(['notification_id', 'number']) as Promise<Record<string, unknown>[]>;
  const kill = async (port: number, dieAt: string, hits: number): Promise<void> => {
    const victim = victims.start(suite.db.address, port, dieAt, hits);
    expect(await Promise.race([victim.ended, wait(20_000)]), `death at ${dieAt}`).toEqual({ code: null, signal: 'SIGKILL' });
  };

  it(
    'delivers everything, whatever the checkpoint, and counts each attempt that may have left',
    async () => {
      const receiver = await suite.receiver();
      const notifier = suite.notifier();
      let triggered = 0;
      for (let cycle = 0; cycle < cycles; cycle++)
        for (const checkpoint of checkpoints) {
          for (let i = 0; i < 12; i++, triggered++)
            await notifier.now().trigger(event(receiver.url, { subjectId: `s${triggered}`, payload: { n: `${triggered}` } }));
          // Claims and settles are of one endpoint each; attempts come in batches.
          await kill(receiver.port, checkpoint, checkpoint.startsWith('attempt') ? 1 + cycle : 1);
        }
      // An unknown attempt is repeated 3 s after it was found.
      notifier.database.clockOffsetMs = 5_000;
      const worker = suite.use(notifier.worker({ lease: '600ms' }));
      await worker.start();
      await until(async () => {
        notifier.database.clockOffsetMs += 500;
        return (await notifications()).every(({ state }) => state === 'DELIVERED');
      });
      expect(await notifications()).toHaveLength(triggered);
      const heard = new Set(receiver.requests.map(({ body }) => body));
      expect(heard.size).toBe(triggered);
      const all = await attempts();
      const outcomes = new Set(all.map(({ outcome }) => outcome));
      expect([...outcomes].sort()).toEqual(['delivered', 'unknown']);
      for (const { id, notify_times } of await notifications()) {
        const own = all.filter(({ notification_id }) => String(notification_id) === String(id));
        expect(own.map(({ number }) => number)).toEqual(Array.from({ length: Number(notify_times) }, (_, i) => i + 1));
        expect(own.map(({ outcome }) => outcome)).toEqual([...new Array(own.length - 1).fill('unknown'), 'delivered']);
      }
      // Nothing is sent that is not an attempt on record.
      expect(receiver.requests.length).toBeLessThanOrEqual(all.length);
    },
    60_000 + cycles * 60_000,
  );

  it('(control) would lose what it says is delivered before it was sent', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    for (let i = 0; i < 12; i++) await notifier.now().trigger(event(receiver.url));
    await kill(receiver.port, 'attempt:before-send', 1);
    await suite.db
      .knex('notifier_notification')
      .whereIn('id', suite.db.knex('notifier_attempt').select('notification_id'))
      .update({ state: 'DELIVERED' });
    const worker = suite.use(notifier.worker({ lease: '600ms' }));
    await worker.start();
    await until(async () => (await notifications()).every(({ state }) => state === 'DELIVERED'));
    expect(receiver.requests.length).toBeLessThan(12);
  });

  // Whose lease is over is found by any worker, the one that lost it among them: the pool says who may take it.
  it('lets one worker of two make an attempt, though the lease of the first is over while it waits for the answer', async () => {
    const answers: (() => void)[] = [];
    const receiver = await suite.receiver((_, response) => answers.push(() => response.end('success')));
    const [first, second] = [suite.notifier(), suite.notifier({ knex: suite.db.connect() })];
    const lost: number[] = [];
    first.events.on('notification:lease-lost', ({ attempt }) => lost.push(attempt));
    const one = suite.use(first.worker({ lease: '60s' }));
    await one.start();
    await first.now().trigger(event(receiver.url));
    await until(() => answers.length === 1);
    const two = suite.use(second.worker({ lease: '60s', pools: ['second'] }));
    await two.start();
    await suite.db.knex('notifier_endpoint').update({ lease_until: 1, pool: 'second' });
    await until(async () => (await attempts())[0]?.outcome === 'unknown');
    // The first hears from its receiver only now, and nobody listens.
    answers[0]?.();
    await until(() => lost.length === 1);
    expect(lost).toEqual([1]);
    expect((await notifications())[0]).toMatchObject({ state: 'PENDING', notify_times: 1 });
    second.database.clockOffsetMs = 5_000;
    await until(() => answers.length === 2);
    answers[1]?.();
    await deliveredInTwo(receiver);
  });

  it('gives an attempt up at once when its own worker takes the endpoint again', async () => {
    const answers: (() => void)[] = [];
    let closed = 0;
    const receiver = await suite.receiver((_, response) => {
      response.once('close', () => (closed += 1));
      answers.push(() => response.end('success'));
    });
    const notifier = suite.notifier();
    const worker = suite.use(notifier.worker({ lease: '60s' }));
    await worker.start();
    await notifier.now().trigger(event(receiver.url));
    await until(() => answers.length === 1);
    await suite.db.knex('notifier_endpoint').update({ lease_until: 1 });
    await until(async () => (await attempts())[0]?.outcome === 'unknown');
    await until(() => closed === 1);
    notifier.database.clockOffsetMs = 5_000;
    await until(() => answers.length === 2);
    answers[1]?.();
    await deliveredInTwo(receiver);
  });

  async function deliveredInTwo(receiver: Awaited<ReturnType<typeof suite.receiver>>): Promise<void> {
    await until(async () => (await notifications())[0]?.state === 'DELIVERED');
    expect((await attempts()).map(({ number, outcome }) => [number, outcome])).toEqual([
      [1, 'unknown'],
      [2, 'delivered'],
    ]);
    expect(new Set(receiver.requests.map(({ headers, body }) => `${headers['webhook-id']} ${body}`)).size).toBe(1);
  }
});
