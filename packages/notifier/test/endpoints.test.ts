import { every, wait } from '@holdfast/core';
import { startStopStress, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { event, onEveryDatabase } from './suite.ts';

const by = { actor: 'alice', reason: 'their wish' };

onEveryDatabase('an endpoint', (suite) => {
  const endpoint = async () => (await suite.db.knex('notifier_endpoint').first()) as Record<string, unknown>;
  const count = async (where: object): Promise<number> =>
    Number((await suite.db.knex('notifier_notification').where(where).count({ n: '*' }))[0]?.n);

  it('is sent nothing while it is paused, not even by its schedule, and everything once it is resumed', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    await suite.use(notifier.worker()).start();
    await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 1);
    const id = String((await endpoint()).id);
    expect(await notifier.endpoints.pause(id, by)).toBe(true);
    await until(async () => (await notifier.endpoints.get(id))?.status === 'PAUSED');
    for (let i = 0; i < 5; i++) await notifier.now().trigger(event(receiver.url));
    await until(async () => (await suite.db.knex('notifier_wake')).length === 0);
    expect(receiver.requests).toHaveLength(1);
    expect(await notifier.endpoints.resume(id, by)).toBe(true);
    await until(() => receiver.requests.length === 6);
    await expect(notifier.endpoints.pause(id, {} as never)).rejects.toThrow(/who does it and why/);
    expect(await notifier.endpoints.pause('424242', by)).toBe(false);
  });

  it('that is paused in the middle of its work ends what is under way, and no more', async () => {
    const answers: (() => void)[] = [];
    const receiver = await suite.receiver((_, response) => answers.push(() => response.end('success')));
    const notifier = suite.notifier();
    await suite.use(notifier.worker()).start();
    for (let i = 0; i < 20; i++) await notifier.now().trigger(event(receiver.url));
    await until(() => answers.length === 4);
    const id = String((await endpoint()).id);
    await notifier.endpoints.pause(id, by);
    for (const answer of answers) answer();
    // Requests that were read ahead may still be sent before the worker notices the pause. Then nothing more comes.
    let sent = 0;
    await until(async () => {
      for (const answer of answers) answer();
      const now = receiver.requests.length;
      const quiet = now === sent && (await endpoint()).status === 'PAUSED';
      sent = now;
      return quiet;
    });
    await notifier.endpoints.resume(id, by);
    await until(async () => {
      for (const answer of answers) answer();
      return (await count({ state: 'DELIVERED' })) === 20;
    });
  });

  it('gets as many requests at a time, and as many a second, as it is limited to', async () => {
    let atOnce = 0;
    let most = 0;
    const receiver = await suite.receiver((_, response) => {
      atOnce += 1;
      most = Math.max(most, atOnce);
      setTimeout(() => {
        atOnce -= 1;
        response.end('success');
      }, 15);
    });
    const notifier = suite.notifier();
    const id = await notifier.endpoints.register({ url: receiver.url, keyRef: 'k' });
    await suite.use(notifier.worker()).start();
    // At once, or a slow database hands them over no faster than they are answered.
    await notifier.now().triggerMany(Array.from({ length: 40 }, () => event(receiver.url)));
    await until(async () => (await count({ state: 'DELIVERED' })) === 40);
    expect(most).toBe(4);
    most = 0;
    await until(async () => (await endpoint()).status === 'IDLE');
    await notifier.endpoints.limit(id, { concurrency: 1 }, by);
    for (let i = 0; i < 20; i++) await notifier.now().trigger(event(receiver.url));
    await until(async () => (await count({ state: 'DELIVERED' })) === 60);
    expect(most).toBe(1);
    await until(async () => (await endpoint()).status === 'IDLE');
    await notifier.endpoints.limit(id, { concurrency: null, ratePerSecond: 20 }, by);
    const from = receiver.requests.length;
    for (let i = 0; i < 12; i++) await notifier.now().trigger(event(receiver.url));
    await until(async () => (await count({ state: 'DELIVERED' })) === 72);
    const times = receiver.requests.slice(from).map(({ at }) => at);
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(11 * 50 - 60);
    expect(await notifier.endpoints.get(id)).toMatchObject({ concurrency: null, ratePerSecond: 20 });
    // A slow rate is not shown as none.
    for (const ratePerSecond of [0.000_001, 0.001, 0.012_5]) {
      await notifier.endpoints.limit(id, { ratePerSecond }, by);
      expect((await notifier.endpoints.get(id))?.ratePerSecond).toBe(ratePerSecond);
    }
    for (const ratePerSecond of [0, -1, 1e-9, Number.NaN, 1_001])
      await expect(notifier.endpoints.limit(id, { ratePerSecond }, by)).rejects.toThrow(/above 0/);
    await expect(notifier.endpoints.limit(id, { concurrency: 2 ** 40 }, by)).rejects.toThrow(/concurrency is/);
    await expect(notifier.endpoints.limit(id, {}, by)).rejects.toThrow(/at least one/);
  });

  it('keeps to its rate when it has had nothing to send for a while, and over a restart', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const id = await notifier.endpoints.register({ url: receiver.url, keyRef: 'k' });
    await notifier.endpoints.limit(id, { ratePerSecond: 2 }, by);
    let worker = suite.use(notifier.worker());
    await worker.start();
    for (let sent = 1; sent <= 4; sent++) {
      await notifier.now().trigger(event(receiver.url));
      await until(() => receiver.requests.length === sent);
      if (sent === 3) {
        await worker.stop();
        worker = suite.use(notifier.worker());
        await worker.start();
      } else await until(async () => (await endpoint()).status !== 'SERVING');
    }
    const gaps = receiver.requests.slice(1).map(({ at }, i) => at - (receiver.requests[i]?.at ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThan(480);
    await until(async () => (await endpoint()).status === 'IDLE');
  });

  it('that asks for a pause by Retry-After gets it for all its notifications, and they lose no attempt', async () => {
    const receiver = await suite.receiver((_, response) => response.writeHead(429, { 'retry-after': '60' }).end());
    const notifier = suite.notifier();
    await notifier.now().triggerMany(Array.from({ length: 30 }, () => event(receiver.url)));
    const opened: number[] = [];
    notifier.events.on('endpoint:opened', ({ openMs }) => opened.push(openMs));
    await suite.use(notifier.worker({ perEndpoint: 2 })).start();
    await until(async () => (await endpoint()).status === 'WAITING');
    // As many as were under way when the first answer came.
    const asked = receiver.requests.length;
    expect(asked).toBeLessThanOrEqual(2);
    await notifier.now().trigger(event(receiver.url));
    await until(async () => (await suite.db.knex('notifier_wake')).length === 0);
    notifier.database.clockOffsetMs += 50_000;
    await until(async () => (await endpoint()).status === 'WAITING');
    expect([receiver.requests.length, await count({ notify_times: 0 }), opened]).toEqual([asked, 31 - asked, []]);
    receiver.behave('ok');
    notifier.database.clockOffsetMs += 11_000;
    await until(async () => (await count({ state: 'DELIVERED' })) === 31);
    notifier.database.clockOffsetMs = 0;
  });

  it('hears of a limit, a pause and another key while it is being served without end', async () => {
    let stop = false;
    let atOnce = 0;
    let most = 0;
    const receiver = await suite.receiver((_, response) => {
      atOnce += 1;
      most = Math.max(most, atOnce);
      setTimeout(() => {
        atOnce -= 1;
        response.end('success');
      }, 5);
    });
    const notifier = suite.notifier();
    const id = await notifier.endpoints.register({ url: receiver.url, keyRef: 'k' });
    await suite.use(notifier.worker()).start();
    const triggering = (async () => {
      while (!stop) {
        await Promise.all(Array.from({ length: 20 }, () => notifier.now().trigger({ ...event(receiver.url), keyRef: undefined as never })));
        // SQLite's driver is synchronous: without a turn of the event loop nothing else would come to pass.
        await wait(1);
      }
    })();
    try {
      await until(() => most === 4);
      await notifier.endpoints.limit(id, { concurrency: 1 }, by);
      await until(() => {
        const was = most;
        most = 0;
        return was === 1;
      });
      await notifier.endpoints.rotate(id, { keyRef: 'other' }, by);
      await until(() => String(receiver.requests.at(-1)?.headers['webhook-signature']).split(' ').length === 2);
      expect((await endpoint()).status).toBe('SERVING');
      await notifier.endpoints.pause(id, by);
      await until(async () => (await endpoint()).status === 'PAUSED');
      const before = receiver.requests.length;
      await until(async () => (await count({ state: 'PENDING' })) > 100);
      expect(receiver.requests.length).toBe(before);
    } finally {
      stop = true;
      await triggering;
    }
  });

  it('opens its breaker after ten failures in a row, tries one request when it is half open, and closes at a success', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: every('1h') });
    const opened: number[] = [];
    notifier.events.on('endpoint:opened', ({ openMs }) => opened.push(openMs));
    await suite.use(notifier.worker()).start();
    for (let i = 0; i < 30; i++) await notifier.now().trigger(event(receiver.url));
    await until(() => opened.length === 1);
    expect(receiver.requests).toHaveLength(10);
    expect(opened).toEqual([30_000]);
    const id = String((await endpoint()).id);
    await until(async () => (await endpoint()).status === 'WAITING');
    expect(await notifier.endpoints.get(id)).toMatchObject({ breaker: 'open', failures: 10 });
    // A trigger does not let a request through. Waiting costs no attempt.
    await notifier.now().trigger(event(receiver.url));
    await until(async () => (await suite.db.knex('notifier_wake')).length === 0);
    expect(receiver.requests).toHaveLength(10);
    notifier.database.clockOffsetMs += 31_000;
    await until(() => opened.length === 2);
    expect(receiver.requests).toHaveLength(11);
    expect(opened[1]).toBe(60_000);
    await until(async () => (await endpoint()).status === 'WAITING');
    receiver.behave('ok');
    notifier.database.clockOffsetMs += 61_000;
    await until(async () => (await count({ state: 'DELIVERED' })) === 20);
    await until(async () => (await endpoint()).status !== 'SERVING');
    expect(await notifier.endpoints.get(id)).toMatchObject({ breaker: 'closed', failures: 0 });
  });

  it('keeps its breaker closed while it answers, if only with the wrong body', async () => {
    const receiver = await suite.receiver((_, response) => response.end('thanks'));
    const notifier = suite.notifier({ schedule: every('1h') });
    await suite.use(notifier.worker()).start();
    for (let i = 0; i < 30; i++) await notifier.now().trigger(event(receiver.url));
    await until(async () => (await count({ notify_times: 1 })) === 30);
    expect((await endpoint()).failures).toBe(0);
  });

  it('that hangs holds nobody else up', async () => {
    const hanging = await suite.receiver('hang');
    const healthy = await Promise.all(Array.from({ length: 5 }, () => suite.receiver()));
    const notifier = suite.notifier({ egress: { requestTimeout: '5s' } });
    await suite.use(notifier.worker({ concurrency: 8 })).start();
    for (let i = 0; i < 200; i++) await notifier.now().trigger(event(hanging.url));
    await until(() => hanging.requests.length === 4);
    const started = performance.now();
    for (let i = 0; i < 50; i++) await notifier.now().trigger(event(healthy[i % 5]?.url ?? ''));
    await until(async () => (await count({ state: 'DELIVERED' })) === 50);
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(hanging.requests).toHaveLength(4);
  });

  it('signs with another key once it is rotated, and with the one before for a while', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const id = await notifier.endpoints.register({ url: receiver.url, keyRef: 'k' });
    await suite.use(notifier.worker()).start();
    const send = async (): Promise<number> => {
      const before = receiver.requests.length;
      await notifier.now().trigger({ ...event(receiver.url), keyRef: undefined as never });
      await until(() => receiver.requests.length > before);
      await until(async () => (await endpoint()).status === 'IDLE');
      return String(receiver.requests.at(-1)?.headers['webhook-signature']).split(' ').length;
    };
    expect(await send()).toBe(1);
    await notifier.endpoints.rotate(id, { keyRef: 'other', overlap: '1h' }, by);
    expect(await send()).toBe(2);
    notifier.database.clockOffsetMs = 3_700_000;
    expect(await send()).toBe(1);
    await expect(notifier.endpoints.rotate(id, { keyRef: 'nobody' }, by)).rejects.toMatchObject({ code: 'key-unknown' });
  });

  it('is served by workers of its pool alone', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    await notifier.endpoints.register({ url: receiver.url, keyRef: 'k', pool: 'gold' });
    await suite.use(notifier.worker()).start();
    await notifier.now().trigger(event(receiver.url));
    await until(async () => (await endpoint()).status === 'READY');
    await suite.use(notifier.worker({ pools: ['gold'] })).start();
    await until(() => receiver.requests.length === 1);
  });

  it('is served by a worker that anybody may start and stop at any time', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const worker = suite.use(notifier.worker());
    await startStopStress(worker, { callers: 5, cycles: 5 });
    await worker.start();
    await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 1);
  });
});
