import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem, type } from 'node:os';
import { dirname } from 'node:path';
import { faults } from './faults.ts';
import { type ControlRun, type LaneRun, lanes } from './lane.ts';
import type { Verdict } from './loads/load.ts';
import { type SuiteRun, suites } from './suites.ts';

interface LaneSum extends Verdict {
  readonly lane: string;
  readonly database: string;
  readonly faults: readonly string[];
  readonly runs: number;
  readonly seconds: number;
  readonly cycles: number;
  /** The longest time from a fault until work was done again. */
  readonly slowestMs: number;
  readonly counts: Readonly<Record<string, number>>;
  /** Seeds of all runs, in order. */
  readonly seeds: readonly number[];
  /** Runs that were not green, and why. They stay, even after the fault they found is fixed. */
  readonly red: readonly string[];
}

interface SuiteSum {
  readonly suite: string;
  readonly faults: readonly string[];
  readonly runs: number;
  readonly seconds: number;
  readonly tests: number;
  readonly controls: number;
  readonly seeds: readonly number[];
  readonly red: readonly string[];
}

interface ControlSum {
  readonly load: string;
  readonly broken: string;
  readonly sees: string;
  readonly runs: number;
  /** The number of runs in which it was seen. Fewer than `runs` means that the judge was blind. */
  readonly turnedRed: number;
  readonly seen: number;
}

interface Sums {
  readonly machine: string;
  readonly from: string;
  readonly to: string;
  readonly seconds: number;
  readonly lanes: readonly LaneSum[];
  readonly suites: readonly SuiteSum[];
  readonly controls: readonly ControlSum[];
}

/** The sums of the results of all runs. */
export class Ledger {
  readonly #file: string;
  #sums: Sums;

  constructor(file: string) {
    this.#file = file;
    const now = new Date().toISOString().slice(0, 10);
    this.#sums = existsSync(file)
      ? (JSON.parse(readFileSync(file, 'utf8')) as Sums)
      : { machine: machine(), from: now, to: now, seconds: 0, lanes: [], suites: [], controls: [] };
  }

  get seconds(): number {
    return this.#sums.seconds;
  }

  addLane(run: LaneRun): void {
    const { lane, database, verdict } = run;
    this.#spend(run.ms);
    this.#sums = {
      ...this.#sums,
      lanes: put(
        this.#sums.lanes,
        (one) => one.lane === lane && one.database === database,
        (old) => ({
          lane,
          database,
          faults: run.faults,
          runs: (old?.runs ?? 0) + 1,
          seconds: (old?.seconds ?? 0) + Math.round(run.ms / 1_000),
          cycles: (old?.cycles ?? 0) + run.cycles,
          slowestMs: Math.max(old?.slowestMs ?? 0, run.slowestMs),
          counts: added(old?.counts ?? {}, run.counts),
          accepted: (old?.accepted ?? 0) + verdict.accepted,
          effects: (old?.effects ?? 0) + verdict.effects,
          lost: (old?.lost ?? 0) + verdict.lost,
          duplicated: (old?.duplicated ?? 0) + verdict.duplicated,
          repeated: (old?.repeated ?? 0) + verdict.repeated,
          wrong: (old?.wrong ?? 0) + verdict.wrong,
          seeds: [...(old?.seeds ?? []), run.seed],
          red: [...(old?.red ?? []), ...run.red.map((why) => `seed ${run.seed}: ${why}`)],
        }),
      ),
    };
  }

  addSuite(run: SuiteRun): void {
    this.#spend(run.ms);
    this.#sums = {
      ...this.#sums,
      suites: put(
        this.#sums.suites,
        ({ suite }) => suite === run.suite,
        (old) => ({
          suite: run.suite,
          faults: run.faults,
          runs: (old?.runs ?? 0) + 1,
          seconds: (old?.seconds ?? 0) + Math.round(run.ms / 1_000),
          tests: (old?.tests ?? 0) + run.passed,
          controls: (old?.controls ?? 0) + run.controls,
          seeds: [...(old?.seeds ?? []), run.seed],
          red: [...(old?.red ?? []), ...run.red.map((why) => `seed ${run.seed}: ${why}`)],
        }),
      ),
    };
  }

  addControl(run: ControlRun): void {
    this.#sums = {
      ...this.#sums,
      controls: put(
        this.#sums.controls,
        ({ load, broken }) => load === run.load && broken === run.broken,
        (old) => ({
          load: run.load,
          broken: run.broken,
          sees: run.sees,
          runs: (old?.runs ?? 0) + 1,
          turnedRed: (old?.turnedRed ?? 0) + (run.seen > 0 ? 1 : 0),
          seen: (old?.seen ?? 0) + run.seen,
        }),
      ),
    };
  }

  /** Writes the sums as JSON, and as Markdown beside it. */
  save(): void {
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(this.#file, `${JSON.stringify(this.#sums, null, 1)}\n`);
    writeFileSync(this.#file.replace(/\.json$/, '.md'), this.#markdown());
  }

  #spend(ms: number): void {
    this.#sums = { ...this.#sums, seconds: this.#sums.seconds + Math.round(ms / 1_000), to: new Date().toISOString().slice(0, 10) };
  }

  #markdown(): string {
    const { lanes: sums, suites: tests, controls, seconds, from, to } = this.#sums;
    const total = (of: (one: LaneSum) => number): string => count(sums.reduce((n, one) => n + of(one), 0));
    const deeds = sums.reduce((all, { counts }) => added(all, counts), {} as Record<string, number>);
    const reds = [...sums, ...tests].flatMap((one) =>
      one.red.map((why) => `${'lane' in one ? `${one.lane} (${one.database})` : one.suite}: ${why}`),
    );
    return `# Fault ledger

<!-- Written by \`npm run chaos\`. Edits are lost. -->

The faults that were caused and their results, summed over every run since ${from} (the last: ${to}): **${duration(seconds)}** of
faults, ${total(({ accepted }) => accepted)} pieces of work accepted, **${total(({ lost }) => lost)} lost**, **${total(({ duplicated }) => duplicated)} duplicated where once is promised**,
${total(({ wrong }) => wrong)} out of order, altered or never submitted; ${total(({ repeated }) => repeated)} seen again where at least once is promised, all under the same id.
${Object.entries(deeds)
  .filter(([what]) => !what.startsWith('not reached'))
  .map(([what, n]) => `${count(n)} ${what}`)
  .join(', ')}.

Machine: ${this.#sums.machine}. The oracle is a process of its own that no fault kills. It stores each accepted id and each
effect with an fsync before it answers. After a refusal or a time-out the outcome is unknown: the call is retried under the same id.
\`kill -9\` of a database does not test fsync, since the operating system keeps what was written to it.

\`\`\`sh
npm run chaos -- --minutes 60              # all of it, in an order that follows from the seed
npm run chaos -- F1,F12 --minutes 5 --seed 42
npm run chaos -- --list
\`\`\`

## Lanes

A load works on a database while faults are caused. Then it runs until no work is left, and the tables are compared with the oracle's
notes.

| lane | faults | database | runs | cycles | accepted | lost | duplicated | wrong | repeated | works again after, at most | disturbances |
| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |
${[...sums]
  .sort((a, b) => a.lane.localeCompare(b.lane) || a.database.localeCompare(b.database))
  .map(
    (one) =>
      `| ${one.lane} | ${one.faults.join(', ')} | ${one.database} | ${one.runs} | ${count(one.cycles)} | ${count(one.accepted)} | ${one.lost} | ${one.duplicated} | ${one.wrong} | ${count(one.repeated)} | ${shortly(one.slowestMs)} | ${Object.entries(
        one.counts,
      )
        .map(([what, n]) => `${count(n)} ${what}`)
        .join(', ')} |`,
  )
  .join('\n')}

## Negative controls

A harness that can't go red proves nothing. In each of these one thing was broken on purpose, and the judge had to see it.

| load | broken | must be seen | runs | turned red | seen |
| --- | --- | --- | --: | --: | --: |
${controls.map((one) => `| ${one.load} | ${broken[one.broken] ?? one.broken} | ${one.sees} | ${one.runs} | ${one.turnedRed} | ${count(one.seen)} |`).join('\n')}

## Lanes that stand beside the code

Tests of the packages, run again with other seeds and more cycles. The controls among them pass when they see what was broken.

| suite | faults | runs | minutes | tests passed | controls that turned red |
| --- | --- | --: | --: | --: | --: |
${tests.map((one) => `| ${one.suite} | ${one.faults.join(', ')} | ${one.runs} | ${Math.round(one.seconds / 60)} | ${count(one.tests)} | ${one.controls} |`).join('\n')}

## Runs that were red

${reds.length === 0 ? 'None.' : reds.map((why) => `- ${why.replaceAll('|', '\\|').replaceAll('<', '&lt;')}`).join('\n')}

## The faults

| | part | fault | must hold | where |
| --- | --- | --- | --- | --- |
${faults.map((one) => `| ${one.id} | ${one.part} | ${one.fault} | ${one.holds} | ${where(one.id)} |`).join('\n')}

F28 and F29 are reserved for a scheduler.
`;
  }
}

const broken: Readonly<Record<string, string>> = {
  'no-fence': 'the effect is not tied to the claim',
  'ack-early': 'acked before the broker has it',
  'no-inbox': 'no inbox',
  believe: 'any answer counts as an acknowledgement',
  'note-late': 'a batch is reported as done before it is',
};

function where(fault: string): string {
  const inLanes = lanes.some((lane) => lane.faults.includes(fault));
  const files = suites.filter((suite) => suite.faults.includes(fault)).flatMap((suite) => suite.files);
  return [...(inLanes ? ['lanes'] : []), ...files.map((file) => `\`${file}\``)].join(', ');
}

function put<T>(list: readonly T[], same: (one: T) => boolean, next: (old: T | undefined) => T): readonly T[] {
  const at = list.findIndex(same);
  return at < 0 ? [...list, next(undefined)] : list.with(at, next(list[at]));
}

function added(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const sum: Record<string, number> = { ...a };
  for (const [name, n] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + n;
  return sum;
}

/** A time until work continued; empty for a lane that does not measure it. */
function shortly(ms: number): string {
  return ms === 0 ? '' : `${(ms / 1_000).toFixed(1)} s`;
}

function count(n: number): string {
  return n.toLocaleString('en');
}

function duration(seconds: number): string {
  return seconds < 3_600
    ? `${Math.round(seconds / 60)} minutes`
    : `${Math.floor(seconds / 3_600)} h ${Math.round((seconds % 3_600) / 60)} min`;
}

function machine(): string {
  return `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release().split('-')[0]} on ${arch()}, Node ${process.version}`;
}
