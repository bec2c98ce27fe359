import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestDatabase, type TestDialect, until } from '@holdfast/core/testing';
import { afterEach, beforeEach } from 'vitest';

const main = join(import.meta.dirname, '..', 'src', 'main.ts');

export interface Started {
  readonly child: ChildProcess;
  /** Everything that it has printed so far. */
  readonly printed: { readonly text: string };
  /** Where its HTTP face is. */
  readonly address: string;
}

export interface Processes {
  /** Of this test alone: for the rows, and two for invoices. */
  readonly db: TestDatabase;
  readonly shards: readonly [TestDatabase, TestDatabase];
  /** Runs the program as its users do, until it says that it is there. */
  start(env?: NodeJS.ProcessEnv, ...args: string[]): Promise<Started>;
}

/** The whole service as processes on databases of their own, for each test of a suite; ended after it, also when it fails. */
export function onProcesses(dialect: TestDialect): Processes {
  const children = new Set<ChildProcess>();
  let databases: TestDatabase[] = [];
  beforeEach(async () => {
    databases = [];
    for (let n = 0; n < 3; n++) databases.push(await dialect.create());
  });
  afterEach(async () => {
    for (const child of [...children]) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
    for (const one of databases) await one.drop();
  });
  const database = (n: number): TestDatabase => databases[n] as TestDatabase;
  return {
    get db() {
      return database(0);
    },
    get shards() {
      return [database(1), database(2)] as const;
    },
    async start(env = {}, ...args) {
      const child = spawn(process.execPath, ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', main, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {
          ...process.env,
          NO_COLOR: '1',
          DISPATCH_DATABASE_URL: database(0).address,
          DISPATCH_INVOICE_DATABASE_URLS: `${database(1).address},${database(2).address}`,
          DISPATCH_SECRET: 's'.repeat(32),
          PORT: '0',
          LOG_LEVEL: 'error',
          ...env,
        },
      });
      children.add(child);
      child.on('exit', () => children.delete(child));
      const printed = { text: '' };
      child.stdout.on('data', (data) => {
        printed.text += data;
      });
      await until(() => printed.text.includes('Ctrl-C ends it'));
      return { child, printed, address: /http:\S+/.exec(printed.text)?.[0] ?? '' };
    },
  };
}
