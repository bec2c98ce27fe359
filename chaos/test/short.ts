import { expect } from 'vitest';
import { type Lane, laneName, lanes, type RunOptions, runLane } from '../src/lane.ts';

/** Another seed each time is for the long runs. */
export const seed = Number(process.env.HOLDFAST_SEED ?? 1);

export function lanesOf(...names: readonly Lane['disturbance'][]): readonly (readonly [string, Lane])[] {
  return lanes
    .filter(({ disturbance }) => names.includes(disturbance))
    .map((lane) => [`${laneName(lane)} (${lane.faults.join(', ')})`, lane]);
}

/** Runs a lane, and expects what must hold in all of them. */
export async function holds(lane: Lane, options: Pick<RunOptions, 'dialect' | 'server' | 'cycles'>): Promise<void> {
  const run = await runLane(lane, { seed, ...options });
  console.log(JSON.stringify({ ...run, faults: undefined }));
  expect(run.red).toEqual([]);
  expect(run.verdict).toMatchObject({ lost: 0, duplicated: 0, wrong: 0 });
  expect(Object.keys(run.counts).filter((what) => what.startsWith('not reached'))).toEqual([]);
}
