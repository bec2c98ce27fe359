import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { boundedCall } from './bounded-call.ts';

const never = (): Promise<never> => new Promise(() => undefined);

/** A function that hangs, and the signal that it got. */
function hanging(): { hang(signal: AbortSignal): Promise<never>; told(): AbortSignal | undefined } {
  let signal: AbortSignal | undefined;
  return {
    hang: (given) => {
      signal = given;
      return never();
    },
    told: () => signal,
  };
}

it('returns what the function returns, without a promise if it returns none', async () => {
  expect(boundedCall(() => 7, { name: 'f', ms: 10 })).toBe(7);
  expect(boundedCall(() => undefined, { name: 'f', ms: 10 })).toBeUndefined();
  await expect(boundedCall(async () => 8, { name: 'f', ms: 1_000 })).resolves.toBe(8);
  // biome-ignore lint/suspicious/noThenProperty: as a query of knex has one
  await expect(boundedCall(() => ({ then: (ok: (n: number) => void) => ok(9) }) as never, { name: 'f', ms: 1_000 })).resolves.toBe(9);
  expect(() =>
    boundedCall(
      () => {
        throw new Error('mine');
      },
      { name: 'f', ms: 10 },
    ),
  ).toThrow('mine');
  await expect(boundedCall(() => Promise.reject(new Error('mine')), { name: 'f', ms: 1_000 })).rejects.toThrow('mine');
});

it('gives up a call that hangs, tells it so by its signal, and says which function it was', async () => {
  const { hang, told } = hanging();
  const call = boundedCall(hang, { name: 'stillWanted', ms: 20 });
  await expect(call).rejects.toMatchObject({
    code: 'call-timeout',
    retryable: true,
    message: expect.stringMatching(/^stillWanted did not answer within 20 ms/),
  });
  expect(told()?.reason).toMatchObject({ code: 'call-timeout' });
});

it('ends with the reason of the signal of its caller', async () => {
  const stop = new AbortController();
  const { hang, told } = hanging();
  const call = boundedCall(hang, { name: 'f', ms: 60_000, signal: stop.signal });
  stop.abort(new Error('stopped'));
  await expect(call).rejects.toThrow('stopped');
  expect(told()?.aborted).toBe(true);
  expect(() => boundedCall(never, { name: 'f', ms: 10, signal: stop.signal })).toThrow('stopped');
});

it('ignores a rejection that comes too late', async () => {
  let fail: ((error: Error) => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    fail = reject;
  });
  await expect(boundedCall(() => late, { name: 'f', ms: 10 })).rejects.toMatchObject({ code: 'call-timeout' });
  fail?.(new Error('too late'));
  // An unhandled rejection would fail this test file.
  await delay(1);
});

it('rejects with an error of the caller', async () => {
  const late = () => new Error('Redis did not answer.');
  await expect(boundedCall(never, { name: 'f', ms: 10, late })).rejects.toThrow('Redis did not answer.');
});
