import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { every, steps } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { defaultSchedule } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

it('is 3, 9, 27 and 81 s, then every 30 minutes and up to 3 more, ten attempts in all', () => {
  const first = Array.from({ length: 10 }, (_, i) => defaultSchedule.delayMs(i + 1, () => 0));
  expect(first).toEqual([3_000, 9_000, 27_000, 81_000, ...new Array(5).fill(1_800_000), undefined]);
  const last = Array.from({ length: 10 }, (_, i) => defaultSchedule.delayMs(i + 1, () => 1));
  expect(last).toEqual([3_000, 9_000, 27_000, 81_000, ...new Array(5).fill(1_980_000), undefined]);
});

onEveryDatabase('the schedule', (suite) => {
  const children = new Set<ChildProcess>();
  afterEach(async () => {
    for (const child of children) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  it('does not take a promise for an acknowledgement, and says so', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ ack: (() => Promise.reject(new Error('mine'))) as never, schedule: steps(60_000) });
    notifier.events.on('notification:failed', async () => {
      throw new Error('mine');
    });
    const { id } = await notifier.now().trigger(event(receiver.url));
    await suite.use(notifier.worker()).start();
    const [first] = await until(async () => {
      const attempts = await notifier.attempts(id);
      return attempts[0]?.endedAt ? attempts : undefined;
    });
    expect(first?.outcome).toBe('wrong-body');
    expect(first?.snippet).toMatch(/ack returned a promise/);
  });

  const notification = async (id: string) =>
    (await suite.db.knex('notifier_notification').where({ id }).first()) as Record<string, unknown>;
  const startVictim = (port: number, dieAt: string, offsetMs: number): ChildProcess => {
    const child = spawn(
      process.execPath,
      [
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'victim', 'victim.ts'),
        suite.db.address,
        String(port),
        dieAt,
        '1',
        String(offsetMs),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    children.add(child);
    child.on('exit', () => children.delete(child));
    return child;
  };

  it('is kept to the millisecond by the database clock, each attempt made by a process that is killed after it', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier();
    const { id } = await notifier.now().trigger(event(receiver.url));
    let offsetMs = 0;
    for (let attempt = 1; attempt <= 10; attempt++) {
      // The victim starts while the attempt is not due yet, and makes it when it is.
      const victim = startVictim(receiver.port, 'attempt:after-end', offsetMs);
      expect(await once(victim, 'exit')).toEqual([null, 'SIGKILL']);
      const row = await notification(id);
      expect(row.notify_times).toBe(attempt);
      expect(receiver.requests).toHaveLength(attempt);
      if (attempt === 10) break;
      expect(row.state).toBe('PENDING');
      notifier.database.clockOffsetMs = 0;
      offsetMs = Number(row.due_at) - (await notifier.database.now()) - 700;
    }
    expect(await notification(id)).toMatchObject({ state: 'EXHAUSTED', due_at: null, response_status: 500 });
    const attempts = await notifier.attempts(id);
    expect(attempts.map(({ number, outcome }) => [number, outcome])).toEqual(Array.from({ length: 10 }, (_, i) => [i + 1, 'refused']));
    for (const [i, { startedAt }] of attempts.entries()) {
      const before = attempts[i - 1];
      if (!before) continue;
      const gap = startedAt - Number(before.endedAt);
      const least = defaultSchedule.delayMs(i, () => 0) ?? 0;
      const most = defaultSchedule.delayMs(i, () => 1) ?? 0;
      // Rounding, at the end of each of two statements.
      expect(gap).toBeGreaterThanOrEqual(least - 1);
      expect(gap).toBeLessThan(most + 2_500);
    }
    expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(receiver.requests.map(({ body }) => body)).size).toBe(1);
    // Nothing more comes of it, whatever the time.
    notifier.database.clockOffsetMs = 90_000_000;
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(async () => (await suite.db.knex('notifier_endpoint').where({ status: 'SERVING' })).length === 0);
    await notifier.compensate();
    expect(await notification(id)).toMatchObject({ state: 'EXHAUSTED', notify_times: 10 });
    expect((await notifier.stats()).exhausted).toBe(1);
  }, 120_000);

  it('waits longer where a receiver asks for it, and no less, and an hour at most', async () => {
    const asks = async (status: number, retryAfter: string): Promise<number> => {
      const receiver = await suite.receiver((_, response) => response.writeHead(status, { 'retry-after': retryAfter }).end());
      const notifier = suite.notifier();
      const worker = suite.use(notifier.worker());
      await worker.start();
      const { id } = await notifier.now().trigger(event(receiver.url));
      await until(async () => (await notification(id)).notify_times === 1);
      await worker.stop();
      const row = await notification(id);
      return Number(row.due_at) - Number(row.last_notified_at);
    };
    expect(Math.abs((await asks(503, '60')) - 60_000)).toBeLessThanOrEqual(2);
    expect(Math.abs((await asks(429, '1')) - 3_000)).toBeLessThanOrEqual(2);
    expect(Math.abs((await asks(503, '864000')) - 3_600_000)).toBeLessThanOrEqual(2);
    expect(Math.abs((await asks(500, '60')) - 3_000)).toBeLessThanOrEqual(2);
    expect(Math.abs((await asks(503, 'soon')) - 3_000)).toBeLessThanOrEqual(2);
    const date = await asks(503, new Date(Date.now() + 120_000).toUTCString());
    expect(date).toBeGreaterThan(110_000);
    expect(date).toBeLessThan(121_500);
  });

  it('may be another, which ends where it ends', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: steps(30, 30).then(every(50).upTo(4)) });
    const worker = suite.use(notifier.worker());
    await worker.start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await until(async () => (await notification(id)).state === 'EXHAUSTED');
    expect(receiver.requests).toHaveLength(4);
    const gaps = receiver.requests.slice(1).map(({ at }, i) => at - (receiver.requests[i]?.at ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(29);
  });

  it('compensates what is unacknowledged, last notified over 30 minutes ago, under ten attempts and overdue', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const now = await notifier.database.now();
    const ago = (minutes: number): number => now - minutes * 60_000;
    const made: Record<string, string> = {};
    const rows: Record<string, object> = {
      lost: { notify_times: 5, last_notified_at: ago(31), due_at: ago(1) },
      'never notified': { notify_times: 0, created_at: ago(31), due_at: ago(31) },
      'notified just now': { notify_times: 5, last_notified_at: ago(29), due_at: ago(1) },
      'not due by its schedule': { notify_times: 5, last_notified_at: ago(31), due_at: ago(-1) },
      'ten attempts': { notify_times: 10, last_notified_at: ago(31), due_at: ago(1) },
      acknowledged: { notify_times: 1, last_notified_at: ago(31), state: 'DELIVERED', due_at: null },
    };
    for (const [name, change] of Object.entries(rows)) {
      const { id } = await notifier.now().trigger(event(receiver.url, { tenant: name }));
      made[id] = name;
      await suite.db.knex('notifier_notification').where({ id }).update(change);
    }
    // As after a restore: no wake row for any of them.
    await suite.db.knex('notifier_wake').delete();
    expect(await notifier.compensate()).toBe(2);
    const marked = await suite.db.knex('notifier_notification').where({ next_trigger: 'compensate' }).select('id');
    expect(marked.map(({ id }) => made[String(id)]).sort()).toEqual(['lost', 'never notified']);
    const worker = suite.use(notifier.worker());
    await worker.start();
    await until(() => receiver.requests.length === 2);
    const attempts = await suite.db.knex('notifier_attempt').select('number', 'trigger_by').orderBy('number');
    expect(attempts).toEqual([
      { number: 1, trigger_by: 'compensate' },
      { number: 6, trigger_by: 'compensate' },
    ]);
  });
});
