import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { event, onEveryDatabase } from './suite.ts';
import { keys } from './suite-keys.ts';

const by = { actor: 'alice', reason: 'their wish' };
const never = (): Promise<never> => new Promise(() => undefined);

onEveryDatabase('a function of the service', (suite) => {
  const rows = async (where: object = {}): Promise<Record<string, unknown>[]> => suite.db.knex('notifier_notification').where(where);

  it('that hangs holds no other endpoint up, hears so by its signal, and costs no attempt', async () => {
    const [stuck, fine] = [await suite.receiver(), await suite.receiver()];
    const signals: AbortSignal[] = [];
    const notifier = suite.notifier({
      callTimeout: 500,
      stillWanted: (subject, { signal }) => {
        if (!subject.startsWith('stuck')) return true;
        signals.push(signal);
        return never();
      },
    });
    await suite.use(notifier.worker({ concurrency: 4 })).start();
    await notifier.now().triggerMany(Array.from({ length: 5 }, (_, i) => event(stuck.url, { subjectId: `stuck-${i}` })));
    await until(() => signals.length >= 4);
    await notifier.now().trigger(event(fine.url));
    await until(() => fine.requests.length === 1);
    await until(async () => (await rows({ reason: 'stillWanted did not answer within 500 ms', state: 'PENDING' })).length === 5);
    expect(signals.slice(0, 5).map(({ aborted }) => aborted)).toEqual([true, true, true, true, true]);
    expect(await suite.db.knex('notifier_attempt').whereNot({ outcome: 'delivered' })).toEqual([]);
    expect(stuck.requests).toHaveLength(0);
  });

  it('that hangs does not keep a worker from stopping, and its row stays due', async () => {
    const receiver = await suite.receiver();
    let asked = 0;
    const notifier = suite.notifier({
      callTimeout: '1h',
      keys: () => {
        asked += 1;
        return asked === 1 ? keys.k : never();
      },
    });
    const { id } = await notifier.now().trigger(event(receiver.url));
    const worker = notifier.worker({ stopTimeout: 100 });
    await worker.start();
    await until(() => asked === 2);
    await worker.stop();
    expect(await rows({ id, state: 'PENDING', notify_times: 0, reason: null })).toHaveLength(1);
    expect(Number((await rows({ id }))[0]?.due_at)).toBeLessThanOrEqual(await notifier.database.now());
  });

  it('that hangs at a trigger, a registration or a probe ends the call, and nothing is written', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ callTimeout: 20, keys: never });
    const late = { code: 'call-timeout', message: expect.stringMatching(/^keys did not answer within 20 ms/) };
    await expect(notifier.now().trigger(event(receiver.url))).rejects.toMatchObject(late);
    await expect(notifier.now().triggerMany([event(receiver.url)])).rejects.toMatchObject(late);
    await expect(notifier.endpoints.register({ url: receiver.url, keyRef: 'k' })).rejects.toMatchObject(late);
    await expect(notifier.endpoints.rotate('1', { keyRef: 'k' }, by)).rejects.toMatchObject(late);
    await expect(notifier.probe(receiver.url, { keyRef: 'k' })).rejects.toMatchObject(late);
    expect([await rows(), await suite.db.knex('notifier_endpoint')]).toEqual([[], []]);
  });

  const previous: Readonly<Record<string, () => string | undefined | Promise<never>>> = {
    missing: () => undefined,
    'not found, says the vault': () => Promise.reject(new Error('404')),
    unfit: () => keys.unfit as string,
    'never answered for': never,
  };
  it.each(Object.keys(previous))('whose previous key is %s has requests signed with the current one', async (name) => {
    const receiver = await suite.receiver();
    let rotated = false;
    const notifier = suite.notifier({
      callTimeout: 50,
      keys: (ref) => (ref === 'k' && rotated ? previous[name]?.() : (keys[ref] as string)),
    });
    const id = await notifier.endpoints.register({ url: receiver.url, keyRef: 'k' });
    await notifier.endpoints.rotate(id, { keyRef: 'other', overlap: '1h' }, by);
    rotated = true;
    await suite.use(notifier.worker()).start();
    await notifier.now().trigger(event(receiver.url, { keyRef: undefined as never }));
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
    expect(String(receiver.requests[0]?.headers['webhook-signature']).split(' ')).toHaveLength(1);
  });

  it('that returns an unfit key behind the current one has requests signed with the current one', async () => {
    const receiver = await suite.receiver();
    const notifier = suite.notifier({ keys: () => [keys.k as string, keys.unfit as string] });
    await suite.use(notifier.worker()).start();
    await notifier.now().trigger(event(receiver.url));
    await until(async () => (await rows({ state: 'DELIVERED' })).length === 1);
  });

  it.each([
    ['throws', () => Promise.reject(new Error('mine'))],
    [
      'throws at once',
      () => {
        throw new Error('mine');
      },
    ],
    ['is not a number', () => Number.NaN],
  ])('that is a schedule and %s leaves the notification due in half an hour', async (_name, delayMs) => {
    const receiver = await suite.receiver(500);
    const notifier = suite.notifier({ schedule: { delayMs, maxAttempts: 5 } as never });
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    const [row] = await until(async () => {
      const found = await rows({ id, notify_times: 1 });
      return found.length > 0 && found;
    });
    expect([row?.state, Number(row?.due_at) - Number(row?.last_notified_at)]).toEqual(['PENDING', 1_800_000]);
  });

  it('that is a schedule and returns a fraction of a ms has the next attempt after it', async () => {
    const receiver = await suite.receiver([500, 'ok']);
    const notifier = suite.notifier({ schedule: { delayMs: () => 20.5, maxAttempts: 5 } as never });
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(receiver.url));
    await until(async () => (await rows({ id, state: 'DELIVERED' })).length === 1);
    expect((await notifier.attempts(id)).map(({ outcome }) => outcome)).toEqual(['refused', 'delivered']);
  });

  it('that signs with a promise is refused, and no unsigned request leaves', async () => {
    const receiver = await suite.receiver();
    const signer = { name: 'mine', checkKey: () => undefined, headers: async () => ({ 'x-sign': '1' }) };
    const notifier = suite.notifier({ sign: [signer as never] });
    expect(await notifier.probe(receiver.url, { keyRef: 'k' })).toMatchObject({
      outcome: 'no-key',
      snippet: expect.stringMatching(/mine.*returned a promise/),
    });
    expect(receiver.requests).toHaveLength(0);
  });
});
