import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type TestDatabase, until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { Pool } from 'undici';

const main = join(import.meta.dirname, '..', '..', '..', 'examples', 'compute-dispatch', 'src', 'main.ts');
const adminKey = `hf_bench0000000_${'a'.repeat(32)}`.replace('bench0000000', 'bench0bench0');

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the caller knows the type of the body
  readonly body: any;
}

export interface ServiceUnderTest {
  readonly knex: Knex;
  call(method: string, path: string, body?: unknown, key?: string): Promise<Answer>;
  /** Places one order, as a tenant with a key. */
  order(count: number, more?: object): Promise<Answer>;
  stop(): Promise<void>;
}

/** Starts the service as one process, and a room without faults as another, as they are deployed, on a Postgres schema of their own. */
export async function startService(
  db: TestDatabase,
  options: { readonly roles: string; readonly machines: number },
): Promise<ServiceUnderTest> {
  const env = {
    ...process.env,
    DISPATCH_DATABASE_URL: db.address,
    DISPATCH_DATABASE_CONNECTIONS: '12',
    DISPATCH_SECRET: 'b'.repeat(32),
    DISPATCH_ADMIN_KEY: adminKey,
    DISPATCH_ROLES: options.roles,
    DISPATCH_MACHINES: String(options.machines),
    DISPATCH_ROOM_FAULTS: 'none',
    DISPATCH_QUOTA: '10000000',
    DISPATCH_RECONCILE_SECONDS: '3600',
    DISPATCH_EXECUTOR: 'none',
    DISPATCH_CALLBACK_PORTS: '9',
    PORT: '0',
    LOG_LEVEL: 'error',
  };
  const child: ChildProcess = spawn(process.execPath, ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', main], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout?.on('data', (data) => {
    printed += data;
  });
  await until(() => printed.includes('Ctrl-C ends it'), { withinMs: 60_000, what: 'the service is there' });
  const pool = new Pool(/http:\/\/[^\s/#]+/.exec(printed)?.[0] ?? '', { connections: 128 });
  const call: ServiceUnderTest['call'] = async (method, path, body, key = adminKey) => {
    const response = await pool.request({
      method: method as 'POST',
      path,
      headers: { authorization: `Bearer ${key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.statusCode, body: await response.body.json() };
  };
  await call('PUT', '/v1/tenants/bench', {});
  const { key } = (await call('POST', '/v1/tenants/bench/keys')).body;
  await call('PUT', '/v1/callback-endpoint', { url: 'http://127.0.0.1:9/' }, key);
  const known = async (): Promise<boolean> => Number((await db.knex('dispatch_machine').count({ n: '*' }))[0]?.n) >= options.machines;
  await until(known, { withinMs: 240_000, what: 'the room is known' });
  let orders = 0;
  const run = Math.trunc(performance.now());
  return {
    knex: db.knex,
    call,
    order: (count, more = {}) => {
      orders += 1;
      const body = { businessOrderNo: `b-${run}-${orders}`, packageId: 'standard', count, minimum: 1, applyDurationMinutes: 10, ...more };
      return call('POST', '/v1/batches', body, key);
    },
    async stop() {
      await pool.close();
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}
