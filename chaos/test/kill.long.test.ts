import { testDialects } from '@holdfast/core/testing';
import { describe, it } from 'vitest';
import { holds, lanesOf } from './short.ts';

describe.each(testDialects())('processes that are killed, on $name', (dialect) => {
  // With three databases, each checkpoint is died at four times.
  const cycles = dialect.name === 'postgres' ? 2 : 1;
  it.each(lanesOf('killAtCheckpoints'))(
    '%s: nothing is lost, nothing is there twice',
    (_, lane) => holds(lane, { dialect, cycles }),
    300_000,
  );
});
