import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { createNotifier } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';
import { keys } from './suite-keys.ts';

onEveryDatabase('odd values', (suite) => {
  const by = { actor: 'ann', reason: 'odd' };
  const url = 'https://8.8.8.8/';

  it('are answered, or refused with an error that says so, wherever a caller names a notification, an endpoint or a key', async () => {
    const notifier = suite.notifier();
    const unsigned = suite.notifier({ sign: [] });
    const { endpoints } = notifier;
    const own = await endpoints.subscribe({ url, events: ['*'], keyRef: 'k' });
    const inspect = notifier.inspect();
    expect(
      await foreignErrors({
        ...Object.fromEntries(
          ['tenant', 'subjectId', 'status', 'sequence', 'keyRef', 'url', 'contentType', 'headers'].map((name) => [
            `trigger ${name}`,
            (value: never) => notifier.now().trigger(event(url, { [name]: value })),
          ]),
        ),
        'trigger keyRef, unsigned': (keyRef) => unsigned.now().trigger(event(url, { keyRef })),
        'trigger keyRef, to an endpoint': (keyRef) => notifier.now().trigger({ ...event(url), url: undefined, endpoints: [own], keyRef }),
        'trigger endpoints': (odd) => notifier.now().trigger({ ...event(url), url: undefined, endpoints: odd }),
        triggerMany: (odd) => notifier.now().triggerMany(odd),
        'triggerMany event': (odd) => notifier.now().triggerMany([odd]),
        ...Object.fromEntries(
          ['tenant', 'status', 'endpoints'].map((name) => [
            `triggerMany ${name}`,
            (odd: never) => notifier.now().triggerMany([{ ...event(url), url: undefined, endpoints: 'subscribed', [name]: odd }]),
          ]),
        ),
        'trigger an endpoint': (odd) => notifier.now().trigger({ ...event(url), url: undefined, endpoints: [odd] }),
        attempts: (id) => notifier.attempts(id),
        resend: (id) => notifier.resend(id, by),
        'resend actor': (actor) => notifier.resend('1', { ...by, actor }),
        'resend reason': (reason) => notifier.resend('1', { ...by, reason }),
        cancel: (id) => notifier.cancel(id, by),
        'replay endpoint': (endpoint) => notifier.replay({ endpoint, since: new Date() }, by),
        ...Object.fromEntries(
          ['since', 'states', 'rate'].map((name) => [
            `replay ${name}`,
            (value: never) => notifier.replay({ endpoint: own, since: new Date(0), [name]: value }, by),
          ]),
        ),
        'replay no states': () => notifier.replay({ endpoint: own, since: new Date(0), states: [] }, by),
        'redrive after': (after) => notifier.redrive({}, { dryRun: true, after }),
        ...Object.fromEntries(
          ['endpoint', 'tenant', 'subjectId', 'status', 'states', 'reason', 'failedAfter'].map((name) => [
            `redrive ${name}`,
            (value: never) => notifier.redrive({ [name]: value }, { dryRun: true }),
          ]),
        ),
        ...Object.fromEntries(
          ['kind', 'subject', 'subjectId', 'tenant', 'status', 'after', 'limit'].map((name) => [
            `list ${name}`,
            (value: never) => inspect.list({ [name]: value }),
          ]),
        ),
        get: (id) => inspect.get(id),
        ...Object.fromEntries(Object.entries(inspect.actions).map(([name, act]) => [name, (target: never) => act(target, by)])),
        'endpoints.list tenant': (tenant) => endpoints.list({ tenant }),
        'endpoints.list after': (after) => endpoints.list({ after }),
        'endpoints.get': (id) => endpoints.get(id),
        ...Object.fromEntries(
          ['tenant', 'url', 'keyRef', 'pool'].map((name) => [
            `endpoints.register ${name}`,
            (value: never) => endpoints.register({ url, [name]: value }),
          ]),
        ),
        ...Object.fromEntries(
          ['tenant', 'url', 'keyRef', 'pool', 'events', 'headers', 'schedule'].map((name) => [
            `endpoints.subscribe ${name}`,
            (value: never) => endpoints.subscribe({ url, [name]: value }),
          ]),
        ),
        'endpoints.change': (id) => endpoints.change(id, { pool: 'p' }, by),
        'endpoints.pause': (id) => endpoints.pause(id, by),
        'endpoints.resume': (id) => endpoints.resume(id, by),
        'endpoints.limit': (id) => endpoints.limit(id, { concurrency: 1 }, by),
        'endpoints.limit concurrency': (concurrency) => endpoints.limit(own, { concurrency }, by),
        'endpoints.limit ratePerSecond': (ratePerSecond) => endpoints.limit(own, { ratePerSecond }, by),
        'endpoints.rotate': (id) => endpoints.rotate(id, { keyRef: 'k' }, by),
        'endpoints.rotate keyRef': (keyRef) => endpoints.rotate(own, { keyRef }, by),
      }),
    ).toEqual([]);
  });

  it('as options, or as what keys returns, are refused with an error that says so', async () => {
    const { knex } = suite.db;
    const good = { knex, keys: () => keys.k };
    const used = (options: object): Promise<unknown> =>
      createNotifier({ ...good, ...options } as never)
        .now()
        .trigger(event(url));
    const names = ['keys', 'sign', 'ack', 'schedule', 'allowHeaders', 'stillWanted', 'callTimeout', 'keep', 'keepFailed', 'remember'];
    const ofWorker = ['concurrency', 'perEndpoint', 'endpoints', 'lease', 'stopTimeout', 'pools', 'breaker', 'disableAfter', 'sweep'];
    const notifier = suite.notifier();
    expect(
      await foreignErrors({
        ...Object.fromEntries(names.map((name) => [name, (value: never) => used({ [name]: value })])),
        'what keys returns': (value) => used({ keys: () => value }),
        ...Object.fromEntries(ofWorker.map((name) => [`worker ${name}`, (value: never) => notifier.worker({ [name]: value })])),
        'worker a pool': (pool) => notifier.worker({ pools: [pool] }),
      }),
    ).toEqual([]);
    expect(() => notifier.worker({ pools: [`a${String.fromCharCode(0)}`] })).toThrow(/pools holds/);
    expect(() => createNotifier({ ...good, schedule: { delayMs: () => 20 } } as never)).toThrow(/schedule is not a Backoff/);
  });

  it('are no headers: those of Fetch and of a Map are refused, where they would be left out', async () => {
    const notifier = suite.notifier({ allowHeaders: ['x-a'] });
    for (const headers of [new Headers({ 'x-a': '1' }), new Map([['x-a', '1']]), [['x-a', '1']], 'x-a: 1', 7]) {
      await expect(notifier.now().trigger(event(url, { headers: headers as never }))).rejects.toThrow(
        /^headers is .*; give a plain object/,
      );
      await expect(notifier.endpoints.subscribe({ url, headers: headers as never })).rejects.toThrow(/^headers is /);
    }
  });
});
