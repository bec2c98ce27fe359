import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '@holdfast/core/testing';

/** A pooler in transaction mode: each transaction of a client may run on another connection to the server. */
export interface Pooler {
  /** The address of the server's database through the pooler. */
  readonly address: string;
  stop(): Promise<void>;
}

/** True where PgBouncer is installed and can be started: as another account than root. */
export const canPool: boolean = process.getuid?.() === 0 && existsSync('/usr/sbin/pgbouncer');

/** Starts a PgBouncer before the Postgres at `server`. Connections to the server are never reset, which is its default in this mode. */
export async function startPooler(server: string): Promise<Pooler> {
  const url = new URL(server);
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-pgbouncer-'));
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const owner = { uid: id('-u'), gid: id('-g') };
  chmodSync(folder, 0o755);
  chownSync(folder, owner.uid, owner.gid);
  const file = join(folder, 'pgbouncer.ini');
  writeFileSync(
    file,
    `[databases]\nholdfast = host=${url.hostname} port=${url.port} dbname=holdfast user=holdfast\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nauth_type = any\npool_mode = transaction\nunix_socket_dir =\nlogfile = ${join(folder, 'log')}\nserver_reset_query =\n`,
  );
  const pooler = spawn('/usr/sbin/pgbouncer', [file], { ...owner, stdio: 'ignore' });
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
  return {
    address: `postgres://holdfast:holdfast@127.0.0.1:${port}/holdfast`,
    async stop() {
      if (pooler.exitCode === null) {
        pooler.kill('SIGKILL');
        await once(pooler, 'exit');
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
