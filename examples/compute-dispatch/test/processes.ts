import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestDatabase, type TestDialect, until } from '@holdfast/core/testing';
import { afterEach, beforeEach } from 'vitest';
import { derivedKey } from '../src/config.ts';
import { ApiKeys } from '../src/tenants/api-keys.ts';

/** What keys are derived from. */
export const secret: string = 's'.repeat(32);
const main = join(import.meta.dirname, '..', 'src', 'main.ts');

export interface Started {
  readonly child: ChildProcess;
  /** Everything that it has printed so far. */
  readonly printed: { readonly text: string };
  /** Where its HTTP face is. */
  readonly address: string;
  /** Asks it as the tenant demo, or as the operators. */
  // biome-ignore lint/suspicious/noExplicitAny: bodies are what the test says they are
  call<Body = any>(method: string, path: string, body?: unknown, as?: string): Promise<{ readonly status: number; readonly body: Body }>;
}

export interface Processes {
  /** Of this test alone: for the rows, and two for invoices. */
  readonly db: TestDatabase;
  readonly shards: readonly [TestDatabase, TestDatabase];
  /** Runs the program as its users do, until it says that it is there. */
  start(env?: NodeJS.ProcessEnv, ...args: string[]): Promise<Started>;
}

/** A port that nobody uses at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
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
          DISPATCH_SECRET: secret,
          DISPATCH_ROLES: 'api,worker,relay',
          DISPATCH_ROOM_FAULTS: 'none',
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
      await until(() => printed.text.includes('Ctrl-C ends it'), { withinMs: 60_000, what: 'the process says that it is there' });
      const address = /http:\/\/[^\s/#]+/.exec(printed.text)?.[0] ?? '';
      const call: Started['call'] = async (method, path, body, as = 'demo') => {
        const response = await fetch(`${address}${path}`, {
          method,
          headers: {
            authorization: `Bearer ${derivedKey(secret, as)}`,
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        const text = await response.text();
        return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text };
      };
      if (args.length === 0) {
        const { knex } = database(0);
        await call('PUT', '/v1/tenants/demo', {}, 'admin');
        await new ApiKeys(knex).keep(derivedKey(secret, 'demo'), 'demo', 0);
        // An order needs an address for callbacks. This one has no host, anywhere (RFC 2606).
        if ((await call('GET', '/v1/callback-endpoint')).status === 404)
          await call('PUT', '/v1/callback-endpoint', { url: 'https://customer.invalid/' });
        await until(async () => (await knex('dispatch_machine').first()) !== undefined, { withinMs: 30_000, what: 'the room is known' });
      }
      return { child, printed, address, call };
    },
  };
}
