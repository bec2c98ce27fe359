import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { startTimer, timeoutSignal } from './timer.ts';
import { idle, wait } from './wait.ts';

const day = 86_400_000;

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

it.each([1, 24, 25, 30, 60, 3_650])('fires after %i days, not before', async (days) => {
  const fired: string[] = [];
  startTimer(days * day, () => fired.push('timer'));
  const signal = timeoutSignal(days * day);
  void wait(days * day).then(() => fired.push('wait'));
  void idle(days * day).then(() => fired.push('idle'));
  await vi.advanceTimersByTimeAsync(days * day - 1);
  expect([fired, signal.aborted]).toEqual([[], false]);
  await vi.advanceTimersByTimeAsync(2);
  expect([fired.sort(), signal.aborted]).toEqual([['idle', 'timer', 'wait'], true]);
  expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
});

it('does not fire after it was cleared, also in its second part', async () => {
  let fired = 0;
  const timer = startTimer(60 * day, () => {
    fired += 1;
  });
  await vi.advanceTimersByTimeAsync(30 * day);
  timer.clear();
  await vi.advanceTimersByTimeAsync(60 * day);
  expect(fired).toBe(0);
});

it('ends a wait of any length when its signal aborts', async () => {
  const stop = new AbortController();
  const waiting = wait(60 * day, stop.signal);
  await vi.advanceTimersByTimeAsync(30 * day);
  stop.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
});
