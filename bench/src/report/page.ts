import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { plot } from './plot.ts';
import type { Line, Results, Run } from './results.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const titles: Readonly<Record<string, string>> = {
  tasks: 'Tasks: claim, run, settle',
  outbox: 'The outbox: table to broker',
  notifier: 'The notifier: signed callbacks',
  scan: 'The scan: 2 x 4 tables',
  runner: 'The code runner: programs',
  dispatch: 'The reference service: orders and slots',
};

/** Writes docs/benchmarks.md and a drawing for each bench, from the results. The explanations are in bench/notes. */
export function writePage(results: Results): void {
  const drawings = join(root, 'docs', 'images', 'benchmarks');
  mkdirSync(drawings, { recursive: true });
  const notes = Object.fromEntries(
    readdirSync(join(root, 'bench', 'notes')).map((name) => [
      name.slice(0, -3),
      readFileSync(join(root, 'bench', 'notes', name), 'utf8').trim(),
    ]),
  );
  const sections: string[] = [];
  for (const [bench, title] of Object.entries(titles)) {
    const run = results[bench];
    if (!run) continue;
    const drawn = drawable(run);
    if (drawn.length > 0)
      writeFileSync(
        join(drawings, `${bench}.svg`),
        plot(`${title} (${drawn.some(({ raw }) => raw !== undefined) ? 'ours' : run.lines[0]?.bench} = 100)`, drawn),
      );
    sections.push(
      [
        `## ${title}`,
        `\`npm run bench -- ${bench}\`. ${run.on}: ${run.machine}; ${run.versions}; medians of ${run.rounds} rounds.`,
        drawn.length > 0
          ? `![Bars: ${title}, each case with ours as 100; the figures are in the table](./images/benchmarks/${bench}.svg)`
          : '',
        contests(run),
        ...run.lines.filter((line) => !contested(line)).map(figures),
        notes[bench] ?? '',
      ]
        .filter((part) => part !== '')
        .join('\n\n'),
    );
  }
  writeFileSync(
    join(root, 'docs', 'benchmarks.md'),
    `# Benchmarks\n\n<!-- Written by \`npm run bench\`, from docs/benchmarks.json and bench/notes. Edits are lost. -->\n\n${notes.about}\n\n${sections.join('\n\n')}\n`,
  );
}

/** The cases with contestants. A bench without contestants compares its rates on its first database with those on the others. */
function drawable({ lines }: Run): readonly Line[] {
  const [first, ...others] = lines;
  if (first && lines.every(({ ours }) => ours === undefined))
    return Object.entries(first).flatMap(([name, value]) => {
      if (!name.endsWith('PerSecond') || typeof value !== 'number') return [];
      const peers = Object.fromEntries(others.map((other) => [other.bench, Number(other[name])]));
      return [{ bench: `${words(name)}`, unit: '/s', ours: value, peers }];
    });
  return lines.filter(contested);
}

function contested({ ours, raw, peers }: Line): boolean {
  return typeof ours === 'number' && (typeof raw === 'number' || Object.keys(peers ?? {}).length > 0);
}

function contests(run: Run): string {
  const lines = run.lines.filter(contested);
  if (lines.length === 0) return '';
  const rows = lines.map(({ bench, unit, ours, raw, peers, vsBestPeer, vsRaw }) => {
    const others = Object.entries(peers ?? {})
      .map(([name, value]) => `${name}: ${count(value)}`)
      .join('<br>');
    return `| ${bench} | ${unit ?? ''} | ${count(ours)} | ${count(raw)} | ${others} | ${vsBestPeer ?? ''} | ${vsRaw ?? ''} |`;
  });
  return `| case | unit | ours | raw | peers | vs best peer | vs raw |\n| --- | --- | --: | --: | --- | --: | --: |\n${rows.join('\n')}`;
}

/** Figures without contestants, as a small table. */
function figures({ bench, unit, ours, raw: _, peers: __, vsBestPeer: ___, vsRaw: ____, ...own }: Line): string {
  const rate = typeof ours === 'number' && unit?.includes('/') ? [['rate', count(ours)]] : [];
  const rows = [...rate, ...flat(own)].map(([name, value]) => `| ${name} | ${value} |`);
  return `| ${bench} | ${unit ?? ''} |\n| --- | --: |\n${rows.join('\n')}`;
}

function flat(value: object, prefix = ''): [string, string][] {
  return Object.entries(value).flatMap(([key, one]): [string, string][] => {
    if (Array.isArray(one)) return one.flatMap((entry) => flat(entry as object, `${prefix}${words(key)}: `));
    if (typeof one === 'object' && one !== null) return flat(one as object, `${prefix}${words(key)}: `);
    return [[`${prefix}${words(key)}`, typeof one === 'number' ? count(one) : String(one)]];
  });
}

/** Turns `besideOneThatHangs` into words. */
function words(key: string): string {
  return key.replaceAll(/([a-z0-9])([A-Z])/g, (_, a: string, b: string) => `${a} ${b.toLowerCase()}`);
}

function count(value: unknown): string {
  return typeof value === 'number' ? value.toLocaleString('en', { maximumFractionDigits: 2 }) : '';
}
