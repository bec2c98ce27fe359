import { existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { lane } from './lane.ts';
import { freePort, runningRecord, serviceFolder, signalGroup, stopRecorded } from './process-record.ts';
import type { Service } from './service.ts';

/** A server for one test, which may kill, stop and starve it. */
export interface ScratchServer {
  readonly url: string;
  /** Kills it by SIGKILL, and waits until it has ended. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data, and waits until it answers. */
  start(): Promise<void>;
  /** Stops the process for a time, like a machine that hangs. */
  freeze(ms: number): Promise<void>;
  stop(): Promise<void>;
}

const keepsData = /^(postgres|mariadb|mysql)/;

/** The folder of a scratch server under `.services/`. The lane `newer` has folders of its own: an older server can't read a newer one's data. */
export function scratchName(name: string): string {
  return lane === 'newer' ? `${name}-newer` : name;
}

/** Starts a second server of a kind. One test file, one `own` name. `more` are arguments to the server. */
export async function scratchServer(service: Service, own: string, more: readonly string[] = []): Promise<ScratchServer> {
  const name = scratchName(own);
  if (!service.binaries.every(existsSync))
    throw new Error(`${service.name} is not installed here (no ${service.binaries.join(', ')}); npm test installs it.`);
  await stopRecorded(name, 'SIGKILL');
  // Databases keep their data, since initialising it is slow. Others start empty: their data names the port, which changes.
  if (!keepsData.test(service.name)) rmSync(serviceFolder(name), { recursive: true, force: true });
  const port = await freePort();
  const url = service.url(port);
  const start = async (): Promise<void> => {
    await service.start(port, name, more);
    for (let i = 0; ; i++) {
      try {
        await service.roundTrip(url);
        return;
      } catch (error) {
        if (i > 600) throw error;
      }
      await sleep(100);
    }
  };
  await start();
  return {
    url,
    start,
    kill: () => stopRecorded(name, 'SIGKILL'),
    freeze: async (ms) => {
      const pid = runningRecord(name)?.pid;
      if (pid === undefined) return;
      signalGroup(pid, 'SIGSTOP');
      try {
        await sleep(ms);
      } finally {
        signalGroup(pid, 'SIGCONT');
      }
    },
    stop: () => stopRecorded(name, service.stopSignal),
  };
}
