import { expect, it } from 'vitest';
import { Drain } from '../src/index.ts';

/** Pushes once at each microtask around the end of a loop, and returns the delays at which the push was left unhandled. */
async function lostPushes(last: (() => Promise<void>) | undefined): Promise<number[]> {
  const lost: number[] = [];
  for (let after = 0; after < 40; after++) {
    const waiting: number[] = [1];
    const drain = new Drain({
      pending: () => waiting.length > 0,
      step: async () => void waiting.shift(),
      onError: () => undefined,
      ...(last ? { last } : {}),
    });
    drain.start();
    for (let i = 0; i < after; i++) await undefined;
    waiting.push(2);
    drain.start();
    while (drain.running) await drain.running;
    if (waiting.length > 0) lost.push(after);
  }
  return lost;
}

it.each([
  ['without a last step', undefined],
  ['with a last step that does nothing', async () => undefined],
  ['with a last step that waits', () => new Promise<void>((resolve) => setImmediate(resolve))],
])('handles a push at whatever moment it comes, %s', async (_, last) => {
  expect(await lostPushes(last)).toEqual([]);
});

it('continues after an error handler that threw', async () => {
  const waiting = [1];
  const handled: number[] = [];
  let broken = true;
  const drain = new Drain({
    pending: () => waiting.length > 0,
    step: async () => {
      if (broken) throw new Error('no');
      handled.push(...waiting.splice(0));
    },
    onError: () => {
      broken = false;
      throw new Error('the logger broke');
    },
  });
  drain.start();
  await drain.running;
  expect(handled).toEqual([1]);
});
