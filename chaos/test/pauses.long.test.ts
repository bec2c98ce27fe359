import { testDialects } from '@holdfast/core/testing';
import { it } from 'vitest';
import { holds, lanesOf } from './short.ts';

const dialects = testDialects();

// Each on one database, in turn: the long runs have them all.
it.each(lanesOf('killAtRandom', 'freeze', 'deafen').map(([name, lane], i) => [name, lane, dialects[i % dialects.length]] as const))(
  '%s: nothing is lost, nothing is there twice',
  async (_, lane, dialect) => {
    if (dialect) await holds(lane, { dialect, cycles: Math.ceil(lane.cycles / 2) });
  },
  300_000,
);
