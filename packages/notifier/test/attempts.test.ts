import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { ack, every } from '../src/index.ts';
import type { Behavior } from '../src/testing/index.ts';
import { event, onEveryDatabase } from './suite.ts';

const by = { actor: 'alice', reason: 'the receiver is mended' };

onEveryDatabase('an attempt', (suite) => {
  const notification = async (id: string) =>
    (await suite.db.knex('notifier_notification').where({ id }).first()) as Record<string, unknown>;
  const ended = (id: string, times = 1) => until(async () => Number((await notification(id)).notify_times) >= times);

  it('ends in the outcome that fits what came back, and only an acknowledgement ends its notification well', async () => {
    const body =
      (text: string, status = 200): Behavior =>
      (_, response) =>
        response.writeHead(status).end(text);
    const script: readonly (readonly [Behavior, string, string, (string | RegExp)?])[] = [
      ['ok', 'delivered', 'DELIVERED'],
      [body('\uFEFF  SUCCESS \r\n'), 'delivered', 'DELIVERED'],
      [201, 'delivered', 'DELIVERED'],
      [body(`success${' '.repeat(5_000)}`), 'delivered', 'DELIVERED'],
      [body('"success"'), 'wrong-body', 'PENDING', /in quotes/],
      [body('{"code":"success"}'), 'wrong-body', 'PENDING', /is JSON/],
      [body('<html>success</html>'), 'wrong-body', 'PENDING', /is HTML/],
      [body(''), 'wrong-body', 'PENDING', /is empty/],
      [body('unsuccessful'), 'wrong-body', 'PENDING', /among other text/],
      [body('ok'), 'wrong-body', 'PENDING', /is not success/],
      [body(`${'x'.repeat(2_000)}success`), 'wrong-body', 'PENDING'],
      ['gzip-bomb', 'wrong-body', 'PENDING', /gzip, which was not asked for/],
      [400, 'refused', 'PENDING', 'http-400'],
      [404, 'refused', 'PENDING', 'http-404'],
      [500, 'refused', 'PENDING', 'http-500'],
      [body('success', 503), 'refused', 'PENDING', 'http-503'],
      ['redirect-metadata', 'redirect', 'PENDING', 'redirect'],
      [410, 'gone', 'GONE'],
      ['reset', 'network', 'PENDING'],
      ['huge-headers', 'network', 'PENDING', 'UND_ERR_HEADERS_OVERFLOW'],
      ['hang', 'timeout', 'PENDING', 'timeout'],
    ];
    const receivers = await Promise.all(script.map(([behavior]) => suite.receiver(behavior)));
    const notifier = suite.notifier({ egress: { requestTimeout: 700 } });
    const worker = suite.use(notifier.worker());
    await worker.start();
    const ids = await Promise.all(receivers.map(async ({ url }) => (await notifier.now().trigger(event(url))).id));
    for (const [i, id] of ids.entries()) {
      await ended(id);
      const [, outcome, state, detail] = script[i] ?? [];
      const [attempt] = await notifier.attempts(id);
      expect(attempt, `script ${i}`).toMatchObject({ number: 1, outcome });
      expect((await notification(id)).state, `script ${i}`).toBe(state);
      if (detail !== undefined) expect(`${attempt?.errorCode} ${attempt?.snippet}`, `script ${i}`).toMatch(detail);
    }
  });

  it('carries long bodies as well as short ones, whole', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    await suite.use(notifier.worker()).start();
    const texts = [10, 4_080, 4_090, 100_000, 262_000].map((n) => 'ü'.repeat(n / 2));
    for (const [i, text] of texts.entries()) await notifier.now().trigger(event(receiver.url, { subjectId: `long-${i}`, payload: text }));
    await until(() => receiver.requests.length === texts.length);
    expect(receiver.requests.map(({ body }) => body).sort((a, b) => a.length - b.length)).toEqual(texts);
  });

  it('whose acknowledgement can not be judged has not been acknowledged', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({
      ack: () => {
        throw new Error('no JSON');
      },
    });
    expect(await notifier.probe(receiver.url, { keyRef: 'k' })).toMatchObject({
      outcome: 'wrong-body',
      snippet: '[ack threw: no JSON] success',
    });
  });

  it('by which an operator probes ends when the notifier is closed', async () => {
    const receiver = await suite.receiver('hang');
    const notifier = suite.notifier();
    const probing = notifier.probe(receiver.url, { keyRef: 'k' });
    const closed = expect(probing).rejects.toThrow(/aborted because the notifier is closing/);
    await until(() => receiver.requests.length === 1);
    const started = performance.now();
    await notifier.close();
    await closed;
    expect(performance.now() - started).toBeLessThan(2_000);
    await expect(notifier.probe(receiver.url, { keyRef: 'k' })).rejects.toThrow(/the notifier is closing/);
  });

  it('may be acknowledged by any 2xx, or by what the service says', async () => {
    const receiver = await suite.receiver((_, response) => response.writeHead(204).end());
    const notifier = suite.notifier({ ack: ack.status2xx() });
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await ended(id);
    expect((await notification(id)).state).toBe('DELIVERED');
    const own = suite.notifier({ ack: ({ headers }) => headers['x-ok'] === 'yes' });
    receiver.behave((_, response) => response.writeHead(200, { 'x-ok': 'yes' }).end());
    expect(await own.probe(receiver.url, { keyRef: 'k' })).toMatchObject({ outcome: 'delivered', trigger: 'test' });
  });

  it('is made again with the same id and bytes when the effect was done and the answer lost', async () => {
    const notifier = async (): Promise<void> => {
      const receiver = await suite.receiver(['lost-ack', 'lost-ack', 'ok']);
      const one = suite.notifier({ schedule: every(20).upTo(5) });
      const worker = suite.use(one.worker());
      await worker.start();
      const { id } = await one.now().trigger(event(receiver.url));
      await until(async () => (await notification(id)).state === 'DELIVERED');
      expect(receiver.requests).toHaveLength(3);
      expect(new Set(receiver.requests.map(({ headers, body }) => `${headers['webhook-id']} ${body}`)).size).toBe(1);
      expect((await one.attempts(id)).map(({ outcome }) => outcome)).toEqual(['network', 'network', 'delivered']);
      await worker.stop();
    };
    for (let i = 0; i < 50 / 3; i++) await notifier();
  });

  it('is made once more by hand, whatever became of it, and its last one stays its last', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: every(10).upTo(2) });
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await until(async () => (await notification(id)).state === 'EXHAUSTED');
    expect(await notifier.inspect().list({ status: 'EXHAUSTED' })).toMatchObject([
      { id, notify_times: 2, reason: 'no acknowledgement in 2 attempts' },
    ]);
    expect(await notifier.resend(id, by)).toBe(true);
    await ended(id, 3);
    expect(await notification(id)).toMatchObject({ state: 'EXHAUSTED', notify_times: 3 });
    receiver.behave('ok');
    expect(await notifier.inspect().actions.resend?.(id, by)).toBe(1);
    await until(async () => (await notification(id)).state === 'DELIVERED');
    expect((await notifier.attempts(id)).map(({ trigger, outcome }) => [trigger, outcome])).toEqual([
      ['auto', 'refused'],
      ['auto', 'refused'],
      ['manual', 'refused'],
      ['manual', 'delivered'],
    ]);
    expect(await notifier.resend('999999', by)).toBe(false);
    expect(await suite.db.knex('holdfast_audit').select('actor', 'action')).toEqual([
      { actor: 'alice', action: 'notifier:resend' },
      { actor: 'alice', action: 'notifier:resend' },
    ]);
  });

  it.each([500, 200])('that a person asks for while another is under way follows that one, which ends with %i', async (status) => {
    let answer: (() => void) | undefined;
    const receiver = await suite.receiver((_, response) => {
      answer = () => response.writeHead(status).end('success');
    });
    const notifier = suite.notifier({ schedule: every('1h') });
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 1);
    expect(await notifier.resend(id, by)).toBe(true);
    receiver.behave('ok');
    answer?.();
    await until(async () => (await notification(id)).notify_times === 2);
    expect(await notification(id)).toMatchObject({ state: 'DELIVERED', next_trigger: 'auto' });
    expect((await notifier.attempts(id)).map(({ trigger, outcome }) => [trigger, outcome])).toEqual([
      ['auto', status === 200 ? 'delivered' : 'refused'],
      ['manual', 'delivered'],
    ]);
    expect(receiver.requests).toHaveLength(2);
  });

  it('that a person asks for after a worker vanished in the one before is made at once', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ schedule: every('1h') });
    const { id } = await notifier.now().trigger(event(receiver.url));
    await suite.db
      .knex('notifier_attempt')
      .insert({ notification_id: id, number: 1, started_at: 1, trigger_by: 'auto', outcome: 'started' });
    await notifier.resend(id, by);
    await suite.use(notifier.worker()).start();
    await until(async () => (await notification(id)).state === 'DELIVERED');
    expect((await notifier.attempts(id)).map(({ outcome }) => outcome)).toEqual(['unknown', 'delivered']);
  });

  it('is not made again by hand for a superseded notification, by no way to ask for it', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const of = (sequence: number) => event(receiver.url, { subjectId: 'machine', sequence, supersede: true });
    const { id } = await notifier.now().trigger(of(1));
    const later = await notifier.now().trigger(of(2));
    const cancelled = { state: 'CANCELLED', reason: 'superseded' };
    expect(await notifier.resend(id, by)).toBe(false);
    expect(await notifier.inspect().actions.resend?.(id, by)).toBe(0);
    expect(await notifier.redrive({ states: ['CANCELLED'] }, by)).toMatchObject({ matched: 0, changed: 0 });
    const [endpoint] = await notifier.endpoints.list();
    expect(await notifier.replay({ endpoint: endpoint?.id ?? '', since: new Date(0), states: ['CANCELLED'] }, by)).toBe(0);
    expect(await notification(id)).toMatchObject(cancelled);
    expect(await notifier.resend(later.id, by)).toBe(true);
  });

  it('is not made for a notification that a person cancelled; one that is under way changes nothing more', async () => {
    let answer: (() => void) | undefined;
    const receiver = await suite.receiver((_, response) => {
      answer = () => response.end('success');
    });
    const notifier = suite.notifier();
    const waiting = await notifier.now().trigger(event(receiver.url));
    expect(await notifier.cancel(waiting.id, by)).toBe(true);
    expect(await notifier.cancel(waiting.id, by)).toBe(false);
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await until(() => receiver.requests.length === 1);
    expect(await notifier.inspect().actions.cancel?.(id, by)).toBe(1);
    answer?.();
    await until(async () => (await notifier.attempts(id))[0]?.outcome === 'delivered');
    expect(await notification(id)).toMatchObject({ state: 'CANCELLED', reason: 'cancelled', due_at: null });
    receiver.behave('ok');
    expect(await notifier.resend(id, by)).toBe(true);
    await until(async () => (await notification(id)).state === 'DELIVERED');
    expect([receiver.requests.length, (await notification(waiting.id)).state]).toEqual([2, 'CANCELLED']);
    await expect(notifier.cancel(id, { actor: '', reason: '' })).rejects.toThrow(/who does it and why/);
    expect(await suite.db.knex('holdfast_audit').where({ action: 'notifier:cancel' })).toHaveLength(2);
  });

  it('is made again for all that an endpoint missed, as slowly as asked', async () => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: every(10).upTo(1) });
    await suite.use(notifier.worker({ breaker: { failures: 1_000 } })).start();
    const since = new Date((await notifier.database.now()) - 1_000);
    for (let i = 0; i < 20; i++) await notifier.now().trigger(event(receiver.url));
    await until(async () => (await notifier.stats()).exhausted === 20);
    const [endpoint] = await notifier.endpoints.list();
    receiver.behave('ok');
    const before = receiver.requests.length;
    const started = performance.now();
    expect(await notifier.replay({ endpoint: endpoint?.id ?? '', since, rate: 40 }, by)).toBe(20);
    await until(async () => (await notifier.stats()).exhausted + (await notifier.stats()).pending === 0);
    expect(performance.now() - started).toBeGreaterThan(450);
    expect(receiver.requests.length - before).toBe(20);
    expect(await notifier.replay({ endpoint: endpoint?.id ?? '', since: new Date(Date.now() + 60_000) }, by)).toBe(0);
  });

  it('is refused by the guard at the moment of sending, if what was allowed is not any more', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier();
    const { id } = await notifier.now().trigger(event(receiver.url));
    const stricter = suite.notifier({ egress: { allowCidrs: [] } });
    await suite.use(stricter.worker()).start();
    await ended(id);
    expect((await stricter.attempts(id))[0]).toMatchObject({ outcome: 'blocked', errorCode: 'egress-denied' });
    expect(receiver.connections).toBe(0);
    await expect(stricter.probe(receiver.url, { keyRef: 'k' })).rejects.toMatchObject({ code: 'egress-denied', rule: 'address' });
  });

  it('shows as failed where its key is gone, and waits where the keys can not be read', async () => {
    const receiver = await suite.receiver();
    let key: () => string | undefined = () => 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
    const notifier = suite.notifier({ keys: async () => key() });
    const { id } = await notifier.now().trigger(event(receiver.url));
    key = () => {
      throw new Error('the vault is sealed');
    };
    await suite.use(notifier.worker()).start();
    await until(async () => String((await notification(id)).reason).includes('vault'));
    expect(await notifier.attempts(id)).toEqual([]);
    key = () => undefined;
    notifier.database.clockOffsetMs = 20_000;
    await ended(id);
    expect((await notifier.attempts(id))[0]).toMatchObject({ outcome: 'no-key' });
    expect(receiver.requests).toHaveLength(0);
  });

  it('under way at several workers end within the stopTimeout of one when the notifier is closed', async () => {
    const stopMs = 700;
    const receivers = [await suite.receiver('hang'), await suite.receiver('hang'), await suite.receiver('hang')];
    const notifier = suite.notifier();
    for (const [i, receiver] of receivers.entries()) {
      const pool = `pool-${i}`;
      await notifier.endpoints.register({ url: receiver.url, pool });
      await notifier.worker({ pools: [pool], stopTimeout: stopMs }).start();
      await notifier.now().trigger(event(receiver.url));
      await until(() => receiver.requests.length === 1);
    }
    const started = performance.now();
    await notifier.close();
    expect(performance.now() - started).toBeLessThan(2 * stopMs);
  });
});
