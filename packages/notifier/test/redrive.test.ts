import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { every } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

const by = { actor: 'ann', reason: 'the receivers are mended' };

onEveryDatabase('a redrive of all notifications that match', (suite) => {
  it('counts them first, sends each again, whatever its endpoint, and is on record', async () => {
    const [broken, gone] = [await suite.receiver(500), await suite.receiver(410)];
    const notifier = suite.notifier({ schedule: every('1h').upTo(1) });
    const worker = suite.use(notifier.worker());
    await worker.start();
    for (let i = 0; i < 6; i++)
      await notifier.now().trigger(event(broken.url, { subjectId: `broken-${i}`, tenant: i < 2 ? 'acme' : 'beta' }));
    for (let i = 0; i < 3; i++) await notifier.now().trigger(event(gone.url, { subjectId: `gone-${i}`, status: 'OFF' }));
    const states = async (): Promise<Record<string, number>> => {
      const rows = await suite.db.knex('notifier_notification').select('state');
      return Object.fromEntries(['PENDING', 'EXHAUSTED', 'GONE'].map((name) => [name, rows.filter(({ state }) => state === name).length]));
    };
    await until(async () => (await states()).PENDING === 0);
    expect(await states()).toEqual({ PENDING: 0, EXHAUSTED: 6, GONE: 3 });
    await worker.stop();
    const counts = async (filter: Parameters<typeof notifier.redrive>[0]) => (await notifier.redrive(filter, { dryRun: true })).matched;
    expect(await counts({})).toBe(9);
    expect(await counts({ states: ['GONE'] })).toBe(3);
    expect(await counts({ states: ['DELIVERED', 'CANCELLED'] })).toBe(0);
    expect(await counts({ tenant: 'acme' })).toBe(2);
    expect(await counts({ subjectId: 'gone-1' })).toBe(1);
    expect(await counts({ status: 'OFF' })).toBe(3);
    expect(await counts({ failedBefore: new Date(0) })).toBe(0);
    expect(await counts({ failedAfter: new Date(0) })).toBe(9);
    const [one] = await notifier.inspect().list({ subject: 'gone-1' });
    expect(await counts({ endpoint: String(one?.endpoint_id) })).toBe(3);
    const pages: number[] = [];
    const first = await notifier.redrive({}, { ...by, rate: 100, limit: 7, onPage: ({ ids }) => pages.push(ids.length) });
    expect(first).toEqual({ matched: 7, changed: 7, after: expect.stringMatching(/^\d+ GONE$/) });
    expect(pages).toEqual([7]);
    expect(await notifier.redrive({}, { ...by, ...(first.after === undefined ? {} : { after: first.after }) })).toEqual({
      matched: 2,
      changed: 2,
      after: undefined,
    });
    expect(await states()).toEqual({ PENDING: 9, EXHAUSTED: 0, GONE: 0 });
    const audits = await suite.db.knex('holdfast_audit').where({ action: 'notifier:redrive' }).orderBy('id');
    expect(audits.map(({ actor, subject }) => `${actor} ${String(subject).split(',')[0]}`)).toEqual([
      'ann 7 notifications',
      'ann 2 notifications',
    ]);
    const sent = broken.requests.length + gone.requests.length;
    const again = suite.use(notifier.worker());
    await again.start();
    await until(async () => (await states()).PENDING === 0);
    expect(broken.requests.length + gone.requests.length - sent).toBe(9);
  });

  it('counts a notification once whose state is given twice, and refuses a cursor of another filter', async () => {
    const gone = await suite.receiver(410);
    const notifier = suite.notifier();
    await suite.use(notifier.worker()).start();
    const { id } = await notifier.now().trigger(event(gone.url));
    await until(async () => (await notifier.inspect().get(id))?.state === 'GONE');
    const states = ['GONE', 'GONE'] as const;
    expect(await notifier.redrive({ states }, { dryRun: true })).toMatchObject({ matched: 1 });
    expect(await notifier.redrive({ states }, { dryRun: true, after: `${id} GONE` })).toMatchObject({ matched: 0 });
    // Each of these began again from the start.
    for (const after of [id, `${id} EXHAUSTED`, `${id} PENDING`, `${id} GONE 1`, 'x GONE', ''])
      await expect(notifier.redrive({ states }, { dryRun: true, after }), after).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(await notifier.replay({ endpoint: '1', since: new Date(0), states: [] }, by)).toBe(0);
    await expect(notifier.replay({ endpoint: '1', since: new Date(0), rate: 1e-9 }, by)).rejects.toThrow(/rate is 1e-9/);
  });

  it('refuses what it does not know', async () => {
    const notifier = suite.notifier();
    await expect(notifier.redrive({}, {})).rejects.toThrow(/redrive needs who does it and why/);
    await expect(notifier.redrive({ states: ['PENDING' as never] }, by)).rejects.toThrow(/states contains "PENDING"; give EXHAUSTED/);
    await expect(notifier.inspect().bulk.redrive({ key: 'a' }, by)).rejects.toThrow(/notifier has no filter key/);
    await expect(notifier.inspect().list({ key: 'a' })).rejects.toThrow(/notifier has no filter key/);
    expect(await notifier.inspect().bulk.redrive({ status: 'EXHAUSTED', kind: 'OFF' }, by)).toMatchObject({ matched: 0 });
  });
});
