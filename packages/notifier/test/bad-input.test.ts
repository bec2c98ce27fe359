import { expect, it } from 'vitest';
import { createNotifier, every, NotSignableError, sortedParams, steps, type Trigger } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase('bad input', (suite) => {
  it('is refused at the trigger, with what to do, and leaves nothing behind', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const bad: readonly (readonly [Partial<Record<keyof Trigger, unknown>>, string, RegExp])[] = [
      [{ url: 'http://10.0.0.1/' }, 'egress-denied', /10\.0\.0\.0\/8 \(private use/],
      [{ url: 'https://example.com:6379/' }, 'egress-denied', /port 6379; the allowed ports are 80, 443, 8443/],
      [{ url: 'nonsense' }, 'egress-denied', /not an absolute URL/],
      [{ url: undefined }, 'egress-denied', /pass a non-empty string/],
      [{ keyRef: 'nobody' }, 'key-unknown', /There is no key "nobody"/],
      [{ keyRef: undefined }, 'invalid-argument', /pass keyRef or signKey/],
      [{ keyRef: 'unfit' }, 'key-invalid', /whsec_/],
      [{ signKey: 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' }, 'invalid-argument', /not both/],
      [{ keyRef: undefined, signKey: 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' }, 'invalid-argument', /sealingKeys/],
      [{ payload: 'x'.repeat(262_145) }, 'invalid-argument', /262145 bytes; the limit is 262144/],
      [{ payload: { x: 'x'.repeat(262_144) } }, 'invalid-argument', /256 KiB/],
      [{ payload: circular }, 'invalid-argument', /can't be written as JSON/],
      [{ payload: { n: 1n } }, 'invalid-argument', /bigint as text/],
      [{ payload: undefined }, 'invalid-argument', /undefined/],
      [{ payload: () => 1 }, 'invalid-argument', /function/],
      [{ payload: { by: new Map([['a', 1]]) } }, 'invalid-argument', /^payload\.by is a Map, .* a Map as an object/],
      [{ payload: new Set([1]) }, 'invalid-argument', /^payload is a Set/],
      [{ payload: { list: [1, Number.NaN] } }, 'invalid-argument', /^payload\.list\[1\] is NaN, which JSON writes as null/],
      [{ payload: { at: new Date(0) } }, 'invalid-argument', /^payload\.at is a Date, .* a date as text/],
      [{ payload: { bytes: Buffer.from('x') } }, 'invalid-argument', /^payload\.bytes is a Uint8Array/],
      [{ payload: Promise.resolve({}) }, 'invalid-argument', /^payload is a Promise/],
      [{ payload: 'a\u0000b' }, 'invalid-argument', /base64/],
      [{ payload: { x: '\ud800' } }, 'invalid-argument', /surrogate/],
      [{ subjectId: '' }, 'invalid-argument', /subjectId/],
      [{ subjectId: 7 }, 'invalid-argument', /subjectId/],
      [{ status: 'x'.repeat(65) }, 'invalid-argument', /1 to 64/],
      [{ sequence: -1 }, 'invalid-argument', /sequence is -1/],
      [{ sequence: 1.5 }, 'invalid-argument', /sequence is 1.5/],
      [{ headers: { 'x-unknown': '1' } }, 'invalid-argument', /allowHeaders/],
      [{ headers: { host: 'x' } }, 'invalid-argument', /can't be set/],
      [{ headers: { 'webhook-id': 'x' } }, 'invalid-argument', /can't be set/],
      [{ contentType: `text/${'x'.repeat(96)}` }, 'invalid-argument', /contentType has 101 characters; the limit is 100/],
      [{ contentType: 'text/plain\r\nx: y' }, 'invalid-argument', /contentType/],
    ];
    for (const [change, code, message] of bad) {
      const one = { ...event(receiver.url), ...change } as Trigger;
      await expect(notifier.now().trigger(one), String(message)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
      await suite.db.knex.transaction(async (trx) => {
        await expect(notifier.in(trx).trigger(one)).rejects.toMatchObject({ code });
      });
    }
    await expect(notifier.now().trigger(undefined as never)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(() => notifier.in(suite.db.knex as never)).toThrow(/needs the transaction/);
    for (const table of ['notification', 'wake', 'attempt']) expect(await suite.db.knex(`notifier_${table}`)).toHaveLength(0);
  });

  it('under sorted parameters is refused where a value is nested, a number, or no object', async () => {
    const receiver = await suite.receiver();
    for (const place of ['body', 'header'] as const) {
      const notifier = suite.notifier({ sign: [sortedParams({ flavor: 'wechat-md5', place })] });
      for (const payload of [{ a: { b: '1' } }, { a: 1 }, { a: ['1'] }, 'a=1', ['1']])
        await expect(notifier.now().trigger(event(receiver.url, { keyRef: 'plain', payload }))).rejects.toBeInstanceOf(NotSignableError);
      expect(await notifier.now().trigger(event(receiver.url, { keyRef: 'plain', payload: { a: '1' } }))).toMatchObject({
        duplicate: false,
      });
    }
  });

  it('to a probe is refused as at a trigger', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    for (const [payload, words] of [
      [circular, /can't be written as JSON/],
      [{ n: 1n }, /bigint as text/],
      [() => 1, /is function/],
      [{ at: new Date(0) }, /payload\.at is a Date/],
      ['x'.repeat(262_145), /262145 bytes/],
    ] as const)
      await expect(notifier.probe(receiver.url, { keyRef: 'k', payload })).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringMatching(words),
      });
    expect(receiver.requests).toHaveLength(0);
    // A text is sent as it is, as by a trigger.
    await notifier.probe(receiver.url, { keyRef: 'k', payload: '<on/>' });
    expect(receiver.requests[0]?.body).toBe('<on/>');
  });

  it('in options is refused when the notifier is made', () => {
    const make = (options: object) => () => createNotifier({ knex: suite.db.knex, ...options } as never);
    expect(make({ knex: undefined })).toThrow(/knex is missing/);
    expect(() => steps('3s', '-1s')).toThrow(/step 2/);
    expect(() => every(-5)).toThrow(/every/);
    expect(make({ schedule: ['3s'] })).toThrow(/schedule is not a Backoff/);
    expect(make({ egress: { allowCidrs: ['everything'] } })).toThrow(/not a valid range/);
    expect(make({ sealingKeys: { k: Buffer.alloc(16) } })).toThrow(/16 bytes; AES-256 takes 32/);
    expect(make({ keep: '-1d' })).toThrow(/keep/);
    expect(make({ callTimeout: 'soon' })).toThrow(/callTimeout/);
    expect(() => sortedParams({ flavor: 'paypal' as never })).toThrow(/flavor is "paypal"/);
    const notifier = suite.notifier();
    for (const options of [{ concurrency: 0 }, { perEndpoint: 1.5 }, { endpoints: -1 }, { lease: 'soon' }, { breaker: { failures: 0 } }])
      expect(() => notifier.worker(options as never), JSON.stringify(options)).toThrow();
  });

  it('to operators is refused with what to give', async () => {
    const notifier = suite.notifier();
    const by = { actor: 'alice', reason: 'x' };
    await expect(notifier.resend("1' OR 1", by)).rejects.toThrow(/give the id of a row/);
    await expect(notifier.resend('1', { actor: '', reason: '' })).rejects.toThrow(/who does it and why/);
    await expect(notifier.replay({ endpoint: 'x', since: new Date() }, by)).rejects.toThrow(/give the id of a row/);
    await expect(notifier.replay({ endpoint: '1', since: new Date('never') }, by)).rejects.toThrow(/since is not a valid Date/);
    await expect(notifier.replay({ endpoint: '1', since: new Date(), rate: 0 }, by)).rejects.toThrow(/rate is 0/);
    await expect(notifier.inspect().list({ status: 'LOST' })).rejects.toThrow(/give one of PENDING/);
    await expect(notifier.inspect().list({ limit: 0 })).rejects.toThrow(/limit is 0/);
    await expect(notifier.endpoints.list({ limit: 1_001 })).rejects.toThrow(/limit is 1001/);
    await expect(notifier.endpoints.list({ after: 'x' })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(notifier.endpoints.register({ url: 'http://localhost/' })).rejects.toMatchObject({ rule: 'host' });
    await expect(notifier.probe('http://localhost/', { keyRef: 'k' })).rejects.toMatchObject({ rule: 'host' });
  });
});
