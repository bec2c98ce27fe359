import { expect, it } from 'vitest';
import { silentLogger } from '../../observe/logger.ts';
import type { ReadyGroup, ReadyQuery } from '../row/ready-groups.ts';
import { Floors } from './floors.ts';
import { ReadyLooks } from './ready-looks.ts';

/** A table on which every look but the shortest takes long, and that answers what the test sets. */
function slowTable() {
  const answers: { short: readonly ReadyGroup[]; full: readonly ReadyGroup[] } = { short: [], full: [] };
  const held: (() => void)[] = [];
  let hold = false;
  let most = 0;
  const floors = new Floors();
  floors.clock(1_000_000);
  floors.claimed('k', 'g', undefined, 500);
  const ready = async ({ floors: from }: ReadyQuery = {}): Promise<ReadyGroup[]> => {
    const found = [...(from === undefined ? answers.full : answers.short)];
    if (from?.[0]?.rank === 475) return found;
    if (hold) {
      const released = new Promise<void>((resolve) => held.push(resolve));
      most = Math.max(most, held.length);
      await released;
    } else await new Promise((resolve) => setTimeout(resolve, 15));
    return found;
  };
  let found = 0;
  const looks = new ReadyLooks({ table: { ready }, floors, onFound: () => (found += 1), logger: silentLogger });
  return {
    looks,
    answers,
    most: () => most,
    /** How often a look beside has found something since `untilBeside`. */
    found: () => found,
    /** Makes looks until those of 200 ms and those over everything are known to take long, and then until one of them is under way. */
    async untilBeside() {
      for (const began = performance.now(); performance.now() - began < 1_000; await new Promise((resolve) => setTimeout(resolve, 1)))
        await looks.next();
      hold = true;
      found = 0;
      while (held.length === 0) {
        await looks.next();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
    end() {
      hold = false;
      for (const release of held.splice(0)) release();
    },
  };
}

const group = (rank: number): ReadyGroup => ({ kind: 'k', group: 'g', rank, lagMs: 0, nowMs: 1_000_000, lost: { least: 0, most: 0 } });

it('does not wait for a look that takes long, and runs one such look at a time', async () => {
  const table = slowTable();
  await table.untilBeside();
  table.answers.short = [group(490)];
  for (let i = 0; i < 50; i++) {
    expect(await table.looks.next()).toEqual({ groups: [group(490)], complete: false });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(table.most()).toBe(1);
  table.end();
  await table.looks.quiet();
});

it('returns what a look beside has found by the next look, once, with the least rank of each group', async () => {
  const table = slowTable();
  table.answers.full = [group(480)];
  for (let returned = 0; returned === 0; ) {
    table.answers.short = [];
    await table.untilBeside();
    // Committed since that look began.
    table.answers.short = [group(450)];
    table.end();
    await table.looks.quiet();
    returned = table.found();
  }
  expect((await table.looks.next()).groups).toEqual([group(450)]);
});

it('looks behind the kinds that stay, from the next look on, and no longer when they have gone', async () => {
  const floors = new Floors();
  floors.clock(1_000_000);
  floors.claimed('a', '', undefined, 500);
  const waiting = new Set(['p', 'q']);
  const queries: ReadyQuery[] = [];
  const ready = async (query: ReadyQuery = {}): Promise<ReadyGroup[]> => {
    queries.push(query);
    // Looks over everything take so long that they are rare.
    if (query.floors === undefined) await new Promise((resolve) => setTimeout(resolve, 15));
    const hidden = query.floors && !query.standing?.includes('p') && waiting.has('p');
    return [...waiting].filter((kind) => !hidden || kind === 'p').map((kind) => ({ ...group(1), kind, group: '' }));
  };
  const looks = new ReadyLooks({ table: { ready }, floors, onFound: () => undefined, logger: silentLogger });
  const short = async (): Promise<readonly string[]> => {
    for (;;) {
      const { groups, complete } = await looks.next();
      if (!complete) return groups.map(({ kind }) => kind);
    }
  };
  await short();
  expect(await short()).toEqual(['p', 'q']);
  waiting.delete('p');
  expect(await short()).toEqual(['q']);
  await short();
  expect(queries.at(-1)?.standing).toEqual(['q']);
});

it('finds what is above the floors also while the server ends each look over everything at its limit', async () => {
  const floors = new Floors();
  floors.clock(1_000_000);
  floors.claimed('k', 'g', undefined, 500);
  const ready = async ({ floors: from }: ReadyQuery = {}): Promise<ReadyGroup[]> => {
    if (from !== undefined) return [group(490)];
    await new Promise((resolve) => setTimeout(resolve, 15));
    throw new Error('canceling statement due to statement timeout');
  };
  const looks = new ReadyLooks({ table: { ready }, floors, onFound: () => undefined, logger: silentLogger });
  let failed = 0;
  for (let i = 0; i < 20; i++) await looks.next().catch(() => (failed += 1));
  // The first fails without a warning, the second might have waited for a lock.
  expect(failed).toBe(2);
  await looks.quiet();
});
