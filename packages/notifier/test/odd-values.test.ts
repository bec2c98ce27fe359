import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { event, onEveryDatabase } from './suite.ts';

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
        'trigger an endpoint': (odd) => notifier.now().trigger({ ...event(url), url: undefined, endpoints: [odd] }),
        attempts: (id) => notifier.attempts(id),
        resend: (id) => notifier.resend(id, by),
        'resend actor': (actor) => notifier.resend('1', { ...by, actor }),
        'resend reason': (reason) => notifier.resend('1', { ...by, reason }),
        cancel: (id) => notifier.cancel(id, by),
        'replay endpoint': (endpoint) => notifier.replay({ endpoint, since: new Date() }, by),
        ...Object.fromEntries(
          ['endpoint', 'tenant', 'subjectId', 'status', 'reason', 'failedAfter'].map((name) => [
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
        'endpoints.rotate': (id) => endpoints.rotate(id, { keyRef: 'k' }, by),
        'endpoints.rotate keyRef': (keyRef) => endpoints.rotate(own, { keyRef }, by),
      }),
    ).toEqual([]);
  });
});
