import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import type { ScanUnit } from '../src/index.ts';
import { onEveryPair, type Thing } from './suite.ts';

/** A promise that never settles. */
const never = (): Promise<never> => new Promise(() => undefined);

onEveryPair(
  'code of the service that hangs',
  (suite) => {
    it('process: its signal aborts after processTimeout, its unit is left without a checkpoint, and the others are finished', async () => {
      await suite.fill(30);
      const signals: AbortSignal[] = [];
      let hangs = true;
      const seen: string[] = [];
      const scan = suite.scan({
        batch: 10,
        processTimeout: '200ms',
        process: async (rows, { shard, signal }) => {
          if (hangs && shard.name === '01.001' && rows[0]?.id === '41') {
            signals.push(signal);
            await never();
          }
          seen.push(...rows.map(({ id }) => id));
        },
      });
      const { exitCode, units } = await scan.run();
      expect(exitCode).toBe(75);
      expect(units.filter(({ state }) => state !== 'done')).toMatchObject([
        { unit: '01.001', state: 'running', handled: 10, failed: 0, position: ['40'], error: { code: 'process-timeout' } },
      ]);
      expect(units.find(({ error }) => error)?.error?.message).toMatch(/a batch of 10 rows within 200 ms \(processTimeout\)/);
      expect(signals.map(({ aborted, reason }) => [aborted, reason.code])).toEqual([[true, 'process-timeout']]);
      hangs = false;
      expect(await scan.run()).toMatchObject({ resumed: true, exitCode: 0 });
      expect(seen.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 240 }, (_, i) => i + 1));
    });

    it.each(['the signal of the run', 'close'] as const)('process: %s ends the run after stopTimeout', async (how) => {
      await suite.fill(30);
      let entered = 0;
      const signals: AbortSignal[] = [];
      const scan = suite.scan({
        batch: 10,
        perDatabase: 4,
        stopTimeout: '100ms',
        process: (_rows, { signal }) => {
          signals.push(signal);
          entered += 1;
          return never();
        },
      });
      const stop = new AbortController();
      const running = scan.run({ signal: stop.signal });
      running.catch(() => undefined);
      await until(() => entered === 4);
      expect(signals.some(({ aborted }) => aborted)).toBe(false);
      if (how === 'close') await scan.close();
      else stop.abort(new Error('enough'));
      const { exitCode, units } = await running;
      expect(exitCode).toBe(75);
      expect(units.filter(({ error }) => error?.code === 'process-timeout')).toHaveLength(4);
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true, true]);
      // The next run takes the units at once, and nothing was counted.
      const again = await suite.other({ batch: 10 }).run();
      expect(again.units.map(({ handled }) => handled)).toEqual(new Array(8).fill(30));
    });

    it('a throttle: its unit is left to the next run', async () => {
      await suite.fill(5);
      const scan = suite.scan({ outage: '50ms', throttle: never });
      const { exitCode, units } = await scan.run({ only: '1' });
      expect(exitCode).toBe(75);
      expect(units.map(({ error }) => error?.code)).toEqual(new Array(4).fill('process-timeout'));
    });

    it('a signal of a unit aborts at the end of its walk, and what process left behind writes no more', async () => {
      await suite.fill(30);
      const kept: { readonly unit: ScanUnit<Thing>; readonly rows: readonly Thing[] }[] = [];
      const scan = suite.scan({
        process: (rows, unit) => {
          expect(unit.signal.aborted).toBe(false);
          kept.push({ unit, rows });
        },
      });
      expect(await scan.run()).toMatchObject({ exitCode: 0 });
      expect(kept).toHaveLength(8);
      for (const { unit, rows } of kept) {
        expect(unit.signal.aborted).toBe(true);
        await expect(unit.update(rows, { mq_state: 1 }, { where: { mq_state: [0, 2] } })).rejects.toThrow(/has ended/);
      }
      expect(await suite.count({ mq_state: 1 })).toBe(0);
    });

    it('close waits for a batch that ends in time, and keeps its checkpoint', async () => {
      await suite.fill(30);
      const finish: (() => void)[] = [];
      const scan = suite.scan({ batch: 10, perDatabase: 4, process: () => new Promise<void>((resolve) => finish.push(resolve)) });
      const running = scan.run();
      await until(() => finish.length === 4);
      const closed = scan.close();
      for (const end of finish) end();
      await closed;
      const { exitCode, units } = await running;
      expect(exitCode).toBe(75);
      expect(units.reduce((sum, { handled }) => sum + handled, 0)).toBe(40);
      await scan.close();
      await expect(scan.run()).rejects.toThrow(/was closed/);
    });
  },
  ['sqlite', 'postgres'],
);
