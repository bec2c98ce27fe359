import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../paths.ts';
import { canInstall, installPackages } from './debian.ts';
import { kafka } from './kafka.ts';
import { type Lane, lane } from './lane.ts';
import { mariadb } from './mariadb.ts';
import { mysql } from './mysql.ts';
import { postgres } from './postgres.ts';
import { freePort, runningRecord, serviceFolder, stopRecorded } from './process-record.ts';
import { rabbitmq } from './rabbitmq.ts';
import { redis } from './redis.ts';
import { s3 } from './s3.ts';
import type { Service } from './service.ts';
import { attempt } from './set-up-step.ts';

const others = [redis, rabbitmq, kafka, s3];
// MySQL and not MariaDB, because most services have MySQL.
const usual = [postgres, mysql, ...others];
const byLane: Readonly<Record<Lane, readonly Service[]>> = {
  usual,
  long: usual,
  mariadb: [mariadb, ...others],
  newer: [postgres, mariadb, ...others],
};

/** The servers of this lane, and those whose address is given from outside. */
export const services: readonly Service[] = [
  ...byLane[lane],
  ...[mysql, mariadb, postgres].filter((service) => !byLane[lane].includes(service) && given(service) !== undefined),
];

/** The servers that `services:down`, `services:status` and chaos use: those of this lane, and always MySQL and MariaDB. */
export const knownServices: readonly Service[] = [...new Set([...services, mariadb, mysql])];

/** The address of a server that is given from outside. */
function given(service: Service): string | undefined {
  return process.env[service.addressVariable ?? service.variable] || undefined;
}

export interface ServiceResult {
  readonly name: string;
  /** `given`: by environment variable. `kept`: was running. `started`: by this call. `missing`: can't be had here. */
  readonly state: 'given' | 'kept' | 'started' | 'missing';
  readonly url?: string;
  readonly version?: string | undefined;
  readonly detail?: string;
}

export interface StartedServices {
  readonly results: readonly ServiceResult[];
  /** The addresses, by environment variable. */
  readonly environment: Record<string, string>;
  /** Reports once, in one line, that a local server has ended while it was needed, with the last lines of its log. */
  watch(ended: (line: string) => void): void;
  /** Stops the servers that this call started, and no others. */
  stop(): Promise<void>;
}

/** Starts every service that is not running, in parallel, and checks each with one round trip. */
export async function startServices(options: {
  /** Default: those of this lane. */
  readonly wanted?: readonly Service[];
  readonly skip: ReadonlySet<string>;
  readonly log: (line: string) => void;
}): Promise<StartedServices> {
  const wanted = (options.wanted ?? services).filter((service) => !options.skip.has(service.name));
  const local = wanted.filter((service) => given(service) === undefined);
  const composed = local.some((service) => !runningRecord(service.name)) && dockerAnswers() && composeUp(local, options.log);
  if (!composed) {
    const incomplete = (): readonly Service[] => local.filter(({ binaries }) => !binaries.every(existsSync));
    const packages = incomplete().flatMap((service) => service.packages);
    if (packages.length > 0 && canInstall()) await attempt(options.log, () => installPackages(packages, options.log));
    for (const service of incomplete()) await attempt(options.log, async () => service.install?.(options.log));
  }
  const results = await Promise.all(wanted.map((service) => bringUp(service, composed)));
  for (const result of results)
    options.log(
      `${result.name.padEnd(12)} ${result.state}${result.version ? ` ${result.version}` : ''}${result.url ? ` ${result.url}` : ''}${result.detail ? ` (${result.detail})` : ''}`,
    );
  const environment: Record<string, string> = {};
  for (const result of results) {
    const service = wanted.find((candidate) => candidate.name === result.name);
    if (service && result.url) environment[service.variable] = result.url;
  }
  let watching: NodeJS.Timeout | undefined;
  return {
    results,
    environment,
    watch: (ended) => {
      const local = composed ? [] : results.filter(({ state }) => state === 'started' || state === 'kept');
      watching = setInterval(() => {
        const gone = local.find(({ name }) => !runningRecord(name));
        if (!gone) return;
        clearInterval(watching);
        ended(`${gone.name} has ended by itself, so every test that needs it fails${lastLogLines(gone.name, 5)}`);
      }, 500);
    },
    stop: async () => {
      clearInterval(watching);
      const own = results.filter((result) => result.state === 'started').map((result) => result.name);
      if (composed) spawnSync('docker', ['compose', 'stop'], { cwd: root, stdio: 'ignore' });
      else
        await Promise.all(
          wanted.filter((service) => own.includes(service.name)).map((service) => stopRecorded(service.name, service.stopSignal)),
        );
    },
  };
}

async function bringUp(service: Service, composed: boolean): Promise<ServiceResult> {
  const address = given(service);
  try {
    if (address) {
      const version = await untilAnswers(service, address, undefined, 10_000);
      return { name: service.name, state: 'given', url: address, version };
    }
    const running = runningRecord(service.name);
    if (running) {
      const url = service.url(running.port);
      const version = await untilAnswers(service, url, service.name, 60_000);
      return { name: service.name, state: 'kept', url, version };
    }
    if (composed) {
      const url = service.url(composePorts[service.name] ?? 0);
      const version = await untilAnswers(service, url, undefined, 60_000);
      return { name: service.name, state: 'started', url, version, detail: 'docker compose' };
    }
    if (!service.binaries.every(existsSync)) {
      return {
        name: service.name,
        state: 'missing',
        detail: `set ${service.addressVariable ?? service.variable}, start Docker, or ${service.missing ?? `run as root on Debian to have ${service.packages.join(' ')} installed`}`,
      };
    }
    const port = await freePort();
    await service.start(port, service.name);
    const url = service.url(port);
    const version = await untilAnswers(service, url, service.name, 120_000);
    return { name: service.name, state: 'started', url, version };
  } catch (error) {
    await stopRecorded(service.name, service.stopSignal);
    const detail = `${(error as Error).message || String(error)}${lastLogLines(service.name, 1)}`;
    return { name: service.name, state: 'missing', detail };
  }
}

/** Retries the round trip until it succeeds. Fails at once if the process of the server has ended. */
async function untilAnswers(service: Service, url: string, recorded: string | undefined, limitMs: number): Promise<string | undefined> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    try {
      return await service.roundTrip(url);
    } catch (error) {
      if (recorded !== undefined && !runningRecord(recorded))
        throw new Error(`the server ended while it was starting: ${(error as Error).message}`);
      if (Date.now() > deadline) throw error;
    }
    await sleep(200);
  }
}

function lastLogLines(name: string, count: number): string {
  const file = join(serviceFolder(name), 'server.log');
  if (!existsSync(file)) return '';
  const lines = readFileSync(file, 'utf8').trim().split('\n').slice(-count);
  return lines[0] ? `; ${file} ends with: ${lines.map((line) => line.slice(0, 300)).join(' | ')}` : '';
}

const composePorts: Readonly<Record<string, number>> = {
  postgres: 54320,
  'postgres-18': 54321,
  mysql: 33070,
  mariadb: 33060,
  'mariadb-11.8': 33061,
  redis: 63790,
  rabbitmq: 56720,
  'rabbitmq-4': 56721,
  kafka: 19092,
  s3: 17070,
};

/** The client alone is common, and answers `docker --version`; only a server answers `docker info`. */
function dockerAnswers(): boolean {
  return spawnSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 }).status === 0;
}

function composeUp(wanted: readonly Service[], log: (line: string) => void): boolean {
  const args = ['compose', 'up', '--wait', ...wanted.map(({ name }) => name.replace('.', '-'))];
  log(`docker ${args.join(' ')}`);
  return spawnSync('docker', args, { cwd: root, stdio: 'inherit' }).status === 0;
}
