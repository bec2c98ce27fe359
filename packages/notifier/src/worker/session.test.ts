import { silentLogger } from '@holdfast/core';
import { expect, it } from 'vitest';
import type { AttemptEnd } from '../attempt/attempt-log.ts';
import { Session, type SessionOptions } from './session.ts';

it('tries to write the end of an attempt for the time of a lease, and no longer', async () => {
  let writes = 0;
  const started = performance.now();
  let lastAt = started;
  const session = new Session({
    row: { id: '1', payload: {} },
    signal: new AbortController().signal,
    leaseMs: 400,
    breaker: { failures: 10, openMs: 1, maxOpenMs: 1 },
    log: {
      end: async () => {
        writes += 1;
        lastAt = performance.now();
        throw Object.assign(new Error('deadlock detected'), { code: '40P01' });
      },
    },
    logger: silentLogger,
  } as unknown as SessionOptions);
  expect(await session.end({ delayMs: undefined } as AttemptEnd)).toBe('refused');
  expect(writes).toBeGreaterThan(2);
  expect(lastAt - started).toBeLessThan(1_500);
});
