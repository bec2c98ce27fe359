import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '@holdfast/core/testing';
import knexFactory from 'knex';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database, listenWaker, silentLogger, Wakers } from '../src/index.ts';

const server = process.env.HOLDFAST_POSTGRES_URL;
const canPool = process.getuid?.() === 0 && existsSync('/usr/sbin/pgbouncer');

describe.runIf(server && canPool)('LISTEN', () => {
  let folder: string;
  let pooler: ChildProcess;
  let pooled: string;
  beforeAll(async () => {
    const url = new URL(server ?? '');
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as { port: number };
    probe.close();
    folder = mkdtempSync(join(tmpdir(), 'holdfast-pgbouncer-'));
    const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
    const owner = { uid: id('-u'), gid: id('-g') };
    chmodSync(folder, 0o755);
    chownSync(folder, owner.uid, owner.gid);
    const file = join(folder, 'pgbouncer.ini');
    writeFileSync(
      file,
      `[databases]\nholdfast = host=${url.hostname} port=${url.port} dbname=holdfast user=holdfast\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nauth_type = any\npool_mode = transaction\nunix_socket_dir =\nlogfile = ${join(folder, 'log')}\nserver_reset_query =\n`,
    );
    pooler = spawn('/usr/sbin/pgbouncer', [file], { ...owner, stdio: 'ignore' });
    pooled = `postgres://holdfast:holdfast@127.0.0.1:${port}/holdfast`;
    await until(
      () =>
        new Promise<boolean>((resolve) => {
          const socket = connect(port, '127.0.0.1');
          socket.on('connect', () => {
            socket.destroy();
            resolve(true);
          });
          socket.on('error', () => resolve(false));
        }),
    );
  });
  afterAll(async () => {
    if (pooler && pooler.exitCode === null) {
      pooler.kill('SIGKILL');
      await once(pooler, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ['delivers over a direct connection', () => server ?? '', true],
    ['is found out behind a pooler that drops it', () => pooled, false],
  ])('%s', async (_name, address, reliable) => {
    const knex = knexFactory({ client: 'pg', connection: address() });
    const database = new Database({ knex });
    const said: string[] = [];
    const note = (_fields: object, message: string) => void said.push(message);
    const waker = listenWaker(database, { logger: { ...silentLogger, debug: note, warn: note }, selfTestMs: 100, deliveryMs: 300 });
    let woken = 0;
    waker.listen('news', () => {
      woken += 1;
    });
    if (reliable) {
      await until(() => waker.reliable);
      const before = woken;
      waker.wake('news');
      await until(() => woken > before);
    } else {
      await until(() => said.some((line) => line.includes('does not deliver')));
      expect(waker.reliable).toBe(false);
    }
    await waker.close();
    await database.close();
    await knex.destroy();
  });

  it('is not opened by a wake-up that comes after close', async () => {
    const knex = knexFactory({ client: 'pg', connection: server ?? '' });
    const database = new Database({ knex });
    let opened = 0;
    const open = database.rawConnection.bind(database);
    database.rawConnection = () => {
      opened += 1;
      return open();
    };
    const wakers = new Wakers({ database, channel: 'news', logger: silentLogger });
    wakers.wake();
    await until(() => opened === 1);
    await wakers.close();
    wakers.wake();
    expect([opened, wakers.reliable]).toEqual([1, false]);
    await database.close();
    await knex.destroy();
  });
});
