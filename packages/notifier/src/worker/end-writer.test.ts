import { silentLogger } from '@holdfast/core';
import { expect, it } from 'vitest';
import type { AttemptEnd } from '../attempt/attempt-log.ts';
import { EndWriter } from './end-writer.ts';

it('tries to write the end of an attempt for the time of a lease, and no longer', async () => {
  let writes = 0;
  const started = performance.now();
  let lastAt = started;
  const fail = async (): Promise<never> => {
    writes += 1;
    lastAt = performance.now();
    throw Object.assign(new Error('deadlock detected'), { code: '40P01' });
  };
  const writer = new EndWriter({
    endpointId: '1',
    signal: new AbortController().signal,
    leaseMs: 400,
    log: { end: fail, skip: fail },
    logger: silentLogger,
  });
  expect(await writer.end({ delayMs: undefined } as AttemptEnd)).toBe('refused');
  expect(writes).toBeGreaterThan(2);
  expect(lastAt - started).toBeLessThan(1_500);
});
