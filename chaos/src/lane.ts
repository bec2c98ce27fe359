import { seededRandom, type TestDialect, until } from '@holdfast/core/testing';
import type { ScratchServer } from '../../tooling/services/scratch.ts';
import { type DisturbanceName, disturbances } from './disturbances.ts';
import { Field } from './field.ts';
import type { Load, LoadName, Verdict } from './loads/load.ts';
import { outboxLoad } from './loads/outbox.ts';
import { scanLoad } from './loads/scan.ts';
import { taskLoad } from './loads/task.ts';
import { webhookLoad } from './loads/webhook.ts';

/** A load under a disturbance: one line of the ledger for each database. */
export interface Lane {
  /** Ids of `faults`. */
  readonly faults: readonly string[];
  readonly load: LoadName;
  readonly disturbance: DisturbanceName;
  /** Cycles of a short run, as in the test suite. `npm run chaos` runs three times as many. */
  readonly cycles: number;
}

const loads: Readonly<Record<LoadName, Load>> = { task: taskLoad, outbox: outboxLoad, webhook: webhookLoad, scan: scanLoad };

export const lanes: readonly Lane[] = [
  { faults: ['F1', 'F2', 'F8'], load: 'outbox', disturbance: 'killAtCheckpoints', cycles: 3 },
  { faults: ['F11'], load: 'task', disturbance: 'killAtCheckpoints', cycles: 3 },
  { faults: ['F21'], load: 'webhook', disturbance: 'killAtCheckpoints', cycles: 3 },
  { faults: ['F26'], load: 'scan', disturbance: 'killAtCheckpoints', cycles: 3 },
  { faults: ['F1', 'F8'], load: 'outbox', disturbance: 'killAtRandom', cycles: 20 },
  { faults: ['F11'], load: 'task', disturbance: 'killAtRandom', cycles: 20 },
  { faults: ['F21'], load: 'webhook', disturbance: 'killAtRandom', cycles: 20 },
  { faults: ['F26'], load: 'scan', disturbance: 'killAtRandom', cycles: 20 },
  { faults: ['F1', 'F8'], load: 'outbox', disturbance: 'freeze', cycles: 5 },
  { faults: ['F12'], load: 'task', disturbance: 'freeze', cycles: 5 },
  { faults: ['F21'], load: 'webhook', disturbance: 'freeze', cycles: 5 },
  { faults: ['F26'], load: 'scan', disturbance: 'freeze', cycles: 5 },
  { faults: ['F13'], load: 'task', disturbance: 'deafen', cycles: 5 },
  ...(['task', 'outbox', 'webhook', 'scan'] as const).flatMap((load): Lane[] => [
    { faults: ['F15'], load, disturbance: 'endSessions', cycles: 8 },
    { faults: ['F3', 'F16'], load, disturbance: 'restartServer', cycles: 3 },
    { faults: ['F3', 'F17'], load, disturbance: 'network', cycles: 6 },
  ]),
];

/** The result of a run of a lane. */
export interface LaneRun {
  readonly lane: string;
  readonly faults: readonly string[];
  readonly database: string;
  readonly seed: number;
  readonly cycles: number;
  readonly ms: number;
  /** The longest time from a fault until work was done again. */
  readonly slowestMs: number;
  /** Counts of kills, freezes, refusals and so on. */
  readonly counts: Readonly<Record<string, number>>;
  readonly verdict: Verdict;
  /** The reasons why the run is red; empty if it is green. */
  readonly red: readonly string[];
}

export interface RunOptions {
  readonly dialect: TestDialect;
  readonly server?: ScratchServer | undefined;
  readonly seed: number;
  readonly cycles: number;
}

export function laneName({ load, disturbance }: Lane): string {
  return `${load}: ${disturbances[disturbance].name}`;
}

/** Runs a lane: feeds and disturbs the field, waits until no work is left, and judges the result. */
export async function runLane(lane: Lane, { dialect, server, seed, cycles }: RunOptions): Promise<LaneRun> {
  const disturbance = disturbances[lane.disturbance];
  const started = performance.now();
  const field = await Field.open({
    load: loads[lane.load],
    dialect,
    server,
    random: seededRandom(seed),
    statementTimeout: disturbance.impatient ? '1s' : '5s',
    mode: 'work',
  });
  const red: string[] = [];
  try {
    const over = new AbortController();
    for (let i = 0; i < disturbance.population; i++) field.population.push(field.start());
    const feeding = field.load.feed(field, over.signal);
    // The feed is awaited below, where its failure is reported.
    feeding.catch(() => undefined);
    try {
      // All processes are up before the first fault: a process rightly refuses to start without a database.
      await until(() => field.population.every((victim) => victim.output().includes('ready')), { what: 'all processes are up' });
      if (disturbance.population > 0) await field.progress(30_000);
      field.slowestMs = 0;
      await disturbance.run(field, cycles);
    } finally {
      over.abort();
      await feeding;
    }
    if (disturbance.population === 0) field.population.push(field.start(), field.start());
    await rest(field, red);
    if (!((field.counts[disturbance.counts] ?? 0) > 0)) red.push(`no ${disturbance.counts}, so nothing is proved`);
    if (field.slowestMs > (disturbance.healsWithinMs ?? Number.POSITIVE_INFINITY))
      red.push(`work continued only ${field.slowestMs} ms after a fault; ${disturbance.healsWithinMs} ms are promised`);
    if (field.died > 0) red.push(`${field.died} processes ended by themselves`);
    for (const victim of field.population) {
      // A process handles the signal only once it is up.
      if (victim.alive) await until(() => victim.output().includes('ready'), { what: 'a process is up' });
      await field.end(victim, 'SIGTERM');
      const { code, signal } = await victim.ended;
      if (code !== 0) red.push(`a process did not stop normally: ${signal ?? code}`);
    }
    const verdict = await field.load.judge(field);
    for (const what of ['lost', 'duplicated', 'wrong'] as const) if (verdict[what] > 0) red.push(`${verdict[what]} ${what}`);
    if (verdict.accepted < 20 || verdict.effects < 20) red.push('hardly any work was done, so nothing is proved');
    const ms = Math.round(performance.now() - started);
    const { counts, slowestMs } = field;
    return { lane: laneName(lane), faults: lane.faults, database: dialect.name, seed, cycles, ms, slowestMs, counts, verdict, red };
  } finally {
    await field.close();
  }
}

/** Runs a load with one thing broken on purpose, and kills its processes where that shows. The judge must see it. */
export async function runControls(load: LoadName, { dialect, seed }: Pick<RunOptions, 'dialect' | 'seed'>): Promise<readonly ControlRun[]> {
  const results: ControlRun[] = [];
  for (const control of loads[load].controls) {
    const field = await Field.open({
      load: loads[load],
      dialect,
      server: undefined,
      random: seededRandom(seed),
      statementTimeout: '5s',
      mode: control.mode,
    });
    try {
      const over = new AbortController();
      const feeding = field.load.feed(field, over.signal);
      for (let cycle = 0; cycle < 4; cycle++) {
        const victim = field.start({ dieAt: control.dieAt, hits: 2 + cycle });
        await Promise.race([victim.ended, new Promise((resolve) => setTimeout(resolve, 10_000))]);
        await field.end(victim, 'SIGKILL');
      }
      over.abort();
      await feeding;
      const last = field.start();
      await rest(field, []);
      await field.end(last, 'SIGTERM');
      const verdict = await field.load.judge(field);
      results.push({ load, broken: control.mode, sees: control.sees, seen: verdict[control.sees] });
    } finally {
      await field.close();
    }
  }
  return results;
}

/** The result of a negative control. */
export interface ControlRun {
  readonly load: LoadName;
  /** The name of what was broken. */
  readonly broken: string;
  readonly sees: 'lost' | 'duplicated';
  /** How many were seen. Zero means that the judge is blind. */
  readonly seen: number;
}

/** Waits until no work is left, for as long as work is being done. */
async function rest(field: Field, red: string[]): Promise<void> {
  const before = new Set(field.oracle.read('accepted')).size;
  let seen = -1;
  let since = performance.now();
  for (;;) {
    // Checked twice in a row: a reader of two tables, one after the other, may miss a row that moves between them.
    if (await field.load.quiet(field, before)) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      if (await field.load.quiet(field, before)) return;
    }
    const done = await field.effects();
    if (done !== seen) {
      seen = done;
      since = performance.now();
    }
    if (performance.now() - since > 60_000) {
      red.push('it did not finish: no work was done for a minute, and some is left');
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
