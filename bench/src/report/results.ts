import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..', '..', '..');
/** The last result of each bench. */
const file = join(root, 'docs', 'benchmarks.json');

/** A line that a bench prints with `--json`: a case with contestants, or figures of its own. */
export interface Line {
  readonly bench: string;
  readonly unit?: string;
  readonly ours?: number;
  readonly raw?: number | null;
  readonly peers?: Readonly<Record<string, number>>;
  readonly vsBestPeer?: number | null;
  readonly vsRaw?: number | null;
  readonly [figure: string]: unknown;
}

/** One run of a bench. */
export interface Run {
  readonly on: string;
  readonly machine: string;
  readonly versions: string;
  readonly rounds: number;
  readonly lines: readonly Line[];
}

export type Results = Readonly<Record<string, Run>>;

export function readResults(): Results {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Results) : {};
}

/** Stores a run in place of the bench's previous one. */
export function keepRun(bench: string, run: Run): Results {
  const results = { ...readResults(), [bench]: run };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
  return results;
}

export function machine(): string {
  return `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release().split('-')[0]} on ${arch()}`;
}

/** The versions of Node, and of the peers and drivers that are installed. */
export function versions(names: readonly string[]): string {
  const of = (name: string): string => {
    const manifest = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')) as { version: string };
    return `${name} ${manifest.version}`;
  };
  return [`Node ${process.version.slice(1)}`, ...names.map(of)].join(', ');
}
