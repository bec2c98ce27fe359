import { execFileSync } from 'node:child_process';
import { type Account, account } from './debian.ts';
import { serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

/** The place where the programs of a server are, and the way to run them. */
export interface Home extends Pick<Service, 'packages' | 'binaries' | 'install' | 'missing'> {
  /** Returns the account of that name. @throws an Error if it does not exist */
  account(name: string): Account;
  /** Runs a program to its end. `name` is the server's folder under `.services/`, which the program can reach. */
  run(name: string, command: string, args: readonly string[], owner: Account): void;
  /** Starts a program that keeps running, and records it under `name`. */
  start(name: string, port: number, command: string, args: readonly string[], owner: Account, env?: NodeJS.ProcessEnv): void;
}

/** Programs of this machine's own suite. */
export function thisMachine(packages: readonly string[], binaries: readonly string[]): Home {
  return {
    packages,
    binaries,
    account,
    run: (name, command, args, owner) => {
      execFileSync(command, args, { ...owner, cwd: serviceFolder(name), stdio: 'ignore' });
    },
    start: (name, port, command, args, owner, env) => {
      startDetached(name, port, command, args, { ...owner, ...(env ? { env } : {}) });
    },
  };
}
