import { expect, it } from 'vitest';
import { type Settlement, silentLogger } from '../src/index.ts';
import { until } from '../src/testing/index.ts';
import { Settler } from '../src/work/run/settler.ts';

const settlement = (id: string): Settlement => ({
  row: { id, version: 1, kind: 'k', group: '', starts: 1, lost: 0, attempts: 0, rank: 0, payload: {} },
  verdict: { outcome: 'done' },
  keep: true,
});

function settler(write: (ids: readonly string[]) => Promise<void>, patienceMs = 60_000) {
  const settled = new Map<string, boolean>();
  const service = new Settler({
    write: async (batch) => {
      const ids = batch.map(({ row }) => row.id);
      await write(ids);
      return new Set(ids);
    },
    onSettled: ({ row }, accepted) => void settled.set(row.id, accepted),
    patienceMs: () => patienceMs,
    logger: silentLogger,
  });
  return { service, settled };
}

it.each([1, 2, 7, 500])('drops only the verdict that the database refuses, of %i', async (size) => {
  const bad = String(Math.floor(size / 3));
  const { service, settled } = settler(async (ids) => {
    if (ids.includes(bad)) throw new Error('value too long');
  });
  for (let id = 0; id < size; id++) service.push(settlement(String(id)));
  await service.drain();
  expect(settled.size).toBe(size);
  expect([...settled].filter(([, accepted]) => !accepted).map(([id]) => id)).toEqual([bad]);
});

it('writes the halves of a refused batch again when the database is unavailable in between', async () => {
  let calls = 0;
  const { service, settled } = settler(async (ids) => {
    calls += 1;
    if (calls === 2) throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' });
    if (ids.includes('bad')) throw new Error('value too long');
  });
  for (const id of ['a', 'bad', 'c', 'd']) service.push(settlement(id));
  await service.drain();
  expect(Object.fromEntries(settled)).toEqual({ a: true, bad: false, c: true, d: true });
});

it.each([0, 40, 300])('stops trying after %i ms, when the lease has expired', async (patienceMs) => {
  const started = performance.now();
  const { service, settled } = settler(async () => {
    throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' });
  }, patienceMs);
  service.push(settlement('a'));
  await until(() => settled.has('a'));
  expect(settled.get('a')).toBe(false);
  expect(performance.now() - started).toBeGreaterThanOrEqual(patienceMs);
});
