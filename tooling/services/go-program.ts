import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { servicesRoot } from '../paths.ts';
import { setUp } from './set-up-step.ts';

/** A Go program that the set-up builds. */
export interface GoProgram {
  /** The path of the program's package, as `go install` takes it. */
  readonly module: string;
  readonly version: string;
  /** The path of the built program. */
  readonly binary: string;
  /** The time that the build takes on two cores, in words. */
  readonly takes: string;
}

/** Builds a Go program. Does nothing where Go is not installed. @throws an Error with the last lines of the build */
export async function buildGoProgram(log: (line: string) => void, { module, version, binary, takes }: GoProgram): Promise<void> {
  const go = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/go/bin'].map((folder) => join(folder, 'go')).find(existsSync);
  if (!go) return;
  const folder = join(servicesRoot, 'bin');
  const program = module.slice(module.lastIndexOf('/') + 1);
  mkdirSync(folder, { recursive: true });
  await setUp(log, {
    what: `Building ${program} ${version} with ${go}`,
    takes,
    command: go,
    args: ['install', '-v', `${module}@${version}`],
    limitMs: 900_000,
    env: { ...process.env, GOBIN: folder, HOME: process.env.HOME ?? '/root' },
  });
  renameSync(join(folder, program), binary);
}
