import type { PublishResult } from '@holdfast/broker';
import { expect, it } from 'vitest';
import type { ProcessResult } from '../src/index.ts';
import { onEveryPair, type Thing } from './suite.ts';

type Process = (rows: readonly Thing[]) => ProcessResult | Promise<ProcessResult>;

onEveryPair(
  'what process returns',
  (suite) => {
    it.each([
      ['settled promises', (rows: readonly Thing[]) => Promise.allSettled(rows.map(() => Promise.reject(new Error('no'))))],
      ['settled promises that were fulfilled', (rows: readonly Thing[]) => Promise.allSettled(rows.map(() => Promise.resolve(1)))],
      ['booleans', (rows: readonly Thing[]) => rows.map(() => false)],
      ['nulls', (rows: readonly Thing[]) => rows.map(() => null)],
      ['texts', (rows: readonly Thing[]) => rows.map(() => 'failed')],
      ['numbers', (rows: readonly Thing[]) => rows.map(() => 500)],
      ['an outcome that nobody knows', (rows: readonly Thing[]) => rows.map(() => ({ outcome: 'toString' }))],
      ['errors in a wrapper', (rows: readonly Thing[]) => rows.map(() => ({ error: new Error('no') }))],
      ['one wrong result among right ones', (rows: readonly Thing[]) => rows.map(({ id }) => (id === '5' ? false : undefined))],
      ['too few results', (rows: readonly Thing[]) => rows.slice(1).map(() => undefined)],
      ['too many results', (rows: readonly Thing[]) => [...rows, 1].map(() => undefined)],
      ['no results', () => []],
      ['false', () => false],
      ['an error that is not thrown', () => new Error('no')],
      ['a map of results', (rows: readonly Thing[]) => new Map(rows.map(({ id }) => [id, new Error('no')]))],
      ['a settled promise', () => ({ status: 'rejected', reason: new Error('no') })],
    ])('%s: fails the unit before its checkpoint, and counts nothing', async (_name, process) => {
      await suite.fill(30);
      const { exitCode, units } = await suite.scan({ batch: 20, process: process as unknown as Process }).run({ only: '1' });
      expect(exitCode).toBe(1);
      const [first] = units;
      expect(first).toMatchObject({ state: 'failed', handled: 0, failed: 0, position: undefined, error: { code: 'invalid-argument' } });
      expect(first?.error?.message).toMatch(/^process returned .*nothing was recorded/);
      expect(await suite.databases[0].knex('scan_failure')).toEqual([]);
    });

    it('nothing, a number, and one result per row count, holes and errors of any kind included', async () => {
      await suite.fill(30);
      const counted = async (name: string, process: Process): Promise<(readonly [number, number])[]> => {
        const { units } = await suite.other({ name, batch: 20, process }).run({ only: '1' });
        return units.map(({ handled, failed }) => [handled, failed] as const);
      };
      const all = new Array(4).fill([30, 0]);
      expect(await counted('nothing', () => undefined)).toEqual(all);
      expect(await counted('number', (rows) => rows.length)).toEqual(all);
      expect(await counted('holes', (rows) => new Array<undefined>(rows.length))).toEqual(all);
      expect(await counted('emptied', (rows) => void (rows as Thing[]).splice(0))).toEqual(all);
      expect(await counted('error', (rows) => rows.map(({ id }) => (Number(id) % 30 === 3 ? new TypeError('no') : undefined)))).toEqual(
        new Array(4).fill([29, 1]),
      );
    });

    it("a publisher's results: acked rows are handled, poison fails, and the others are handed over again", async () => {
      await suite.fill(30);
      const acked: PublishResult = { outcome: 'acked', at: { partition: 1, offset: '7' } };
      const refused = (outcome: 'retriable' | 'backpressure' | 'poison' | 'fatal'): PublishResult => ({
        outcome,
        error: { name: 'BrokerError', code: 'TOO_LARGE', message: 'the broker says no' },
      });
      const times = new Map<string, number>();
      const scan = suite.scan({
        batch: 20,
        process: async (rows): Promise<readonly PublishResult[]> =>
          rows.map(({ id }) => {
            const n = (times.get(id) ?? 0) + 1;
            times.set(id, n);
            if (Number(id) % 30 === 7) return refused('poison');
            if (n > 1) return acked;
            return Number(id) % 30 === 3 ? refused('retriable') : Number(id) % 30 === 4 ? refused('backpressure') : acked;
          }),
      });
      const { exitCode, units } = await scan.run({ only: '1' });
      expect(exitCode).toBe(1);
      expect(units.map(({ handled, failed }) => [handled, failed])).toEqual(new Array(4).fill([29, 1]));
      expect([...times.values()].filter((n) => n > 1)).toHaveLength(8);
      const failures = await suite.databases[0].knex('scan_failure').select('error');
      expect(failures.map(({ error }) => JSON.parse(error))).toEqual(
        new Array(4).fill({ name: 'BrokerError', code: 'TOO_LARGE', message: 'the broker says no' }),
      );
    });

    it('a broker that takes nothing leaves the units to the next run, with no row blamed', async () => {
      await suite.fill(5);
      let up = false;
      const scan = suite.scan({
        outage: '100ms',
        process: (rows): readonly PublishResult[] =>
          rows.map(() =>
            up ? { outcome: 'acked', at: {} } : { outcome: 'fatal', error: { name: 'E', message: 'the password is wrong' } },
          ),
      });
      const first = await scan.run({ only: '1' });
      expect(first.exitCode).toBe(75);
      for (const { error, failed } of first.units) {
        expect(failed).toBe(0);
        expect(error).toMatchObject({ code: 'rows-not-taken', message: expect.stringContaining('the password is wrong') });
      }
      up = true;
      expect(await scan.run({ only: '1' })).toMatchObject({ resumed: true, exitCode: 0 });
    });
  },
  ['sqlite', 'postgres'],
);
