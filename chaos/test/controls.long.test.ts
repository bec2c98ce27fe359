import { testDialects } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { runControls } from '../src/lane.ts';
import { seed } from './short.ts';

const dialects = testDialects();

it.each(['task', 'outbox', 'webhook', 'scan'] as const)('(control) the judge of %s sees what is broken on purpose', async (load) => {
  for (const dialect of dialects.slice(-1))
    for (const { broken, sees, seen } of await runControls(load, { dialect, seed })) expect(seen, `${broken}: ${sees}`).toBeGreaterThan(0);
});
