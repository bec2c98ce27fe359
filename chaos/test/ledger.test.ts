import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { faults } from '../src/faults.ts';
import { type LaneRun, lanes } from '../src/lane.ts';
import { Ledger } from '../src/ledger.ts';
import { Oracle } from '../src/oracle/oracle.ts';
import { suites } from '../src/suites.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-ledger-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const verdict = { accepted: 100, effects: 100, lost: 0, duplicated: 0, repeated: 3, wrong: 0 };
const run: LaneRun = {
  lane: 'task: heartbeat cut',
  faults: ['F13'],
  database: 'postgres',
  seed: 7,
  cycles: 5,
  ms: 30_000,
  slowestMs: 900,
  counts: { 'heartbeats cut': 5 },
  verdict,
  red: [],
};

it('sums the runs, keeps every seed, and never drops a red run', () => {
  const file = join(folder, 'ledger.json');
  const first = new Ledger(file);
  first.addLane(run);
  first.addLane({ ...run, database: 'mariadb' });
  first.addControl({ load: 'task', broken: 'no-fence', sees: 'duplicated', seen: 4 });
  first.addControl({ load: 'task', broken: 'no-fence', sees: 'duplicated', seen: 0 });
  first.save();
  const second = new Ledger(file);
  second.addLane({ ...run, seed: 8, slowestMs: 1_500, verdict: { ...verdict, lost: 1 }, red: ['1 lost'] });
  second.save();
  const { seconds, lanes: sums, controls } = JSON.parse(readFileSync(file, 'utf8'));
  expect(seconds).toBe(90);
  expect(sums[0]).toMatchObject({
    runs: 2,
    cycles: 10,
    accepted: 200,
    lost: 1,
    slowestMs: 1_500,
    counts: { 'heartbeats cut': 10 },
    seeds: [7, 8],
    red: ['seed 8: 1 lost'],
  });
  expect(controls).toMatchObject([{ runs: 2, turnedRed: 1, seen: 4 }]);
  const page = readFileSync(file.replace('.json', '.md'), 'utf8');
  expect(page).toContain('**1 lost**');
  expect(page).toContain('task: heartbeat cut (postgres): seed 8: 1 lost');
});

it('has a lane or a suite for every fault', () => {
  const covered = new Set([...lanes.flatMap((lane) => lane.faults), ...suites.flatMap((suite) => suite.faults)]);
  expect(faults.map(({ id }) => id).filter((id) => !covered.has(id))).toEqual([]);
  expect([...covered].filter((id) => !faults.some((fault) => fault.id === id))).toEqual([]);
});

it('has an oracle that answers when the note is on disk, and keeps the order of the notes', async () => {
  const oracle = await Oracle.start();
  try {
    await Promise.all(Array.from({ length: 200 }, (_, n) => oracle.notes.note(n % 2 === 0 ? 'accepted' : 'effect', [`${n}`, `${n}b`])));
    expect(oracle.read('accepted').slice(0, 4)).toEqual(['0', '0b', '2', '2b']);
    expect(oracle.read('effect')).toHaveLength(200);
  } finally {
    await oracle.stop();
  }
});
