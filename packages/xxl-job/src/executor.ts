import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  checkTables,
  Database,
  type Duration,
  defineLoop,
  durationMs,
  guardLogger,
  InvalidArgumentError,
  type Logger,
  type Loop,
  lifecycle,
  type Service,
  settledWithin,
  wait,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { AdminClient } from './admin/admin-client.ts';
import { EndDelivery } from './admin/end-delivery.ts';
import { httpAddress, isWildcard, ownHost } from './admin/own-address.ts';
import { type JobEnd, type ProtocolVersion, protocolVersions, readTrigger } from './admin/protocol.ts';
import { type AdminOperations, serveAdmin } from './admin/serve-admin.ts';
import { JobLog, logClock } from './job/job-log.ts';
import { type JobHandler, JobQueue } from './job/job-queue.ts';
import { xxlJobSchema } from './schema.ts';
import { EndFiles } from './store/end-files.ts';
import type { EndStore } from './store/end-store.ts';
import { EndTable } from './store/end-table.ts';
import { LogFiles } from './store/log-files.ts';
import { LogTable } from './store/log-table.ts';

/** Options of an executor: its admins, its handlers, and its address. */
export interface ExecutorOptions {
  /** Addresses of the admins, such as `['http://xxl.example/xxl-job-admin']`. The executor registers with each, every 30 s. */
  readonly admins: readonly string[];
  /** The executor's AppName in the admin: 4 to 64 letters, digits, dots, dashes and underscores. */
  readonly appName: string;
  /** The admin's `xxl.job.accessToken`. Default: none; anybody who reaches the port can then start jobs. */
  readonly accessToken?: string;
  /** Handlers by the name that a job in the admin gives as JobHandler. */
  readonly handlers: Readonly<Record<string, JobHandler>>;
  /** The address to listen on. Default `127.0.0.1`, which other machines can't reach; `0.0.0.0` is every address of this machine. */
  readonly host?: string;
  /** The port to listen on; 0 takes a free one. Default 9999. */
  readonly port?: number;
  /**
   * The address at which the admin calls this executor, if a proxy or a port mapping is in between. Default `http://host:port/`; where `host` is
   * every address, the one from which this machine calls the first admin on another machine. A warning is logged if an admin on another
   * machine can't reach it.
   */
  readonly address?: string;
  /**
   * The version of the admin's protocol. Default: `2.3`, for admins of 2.3 to 3.4, or `3.5`, as a call of `/trigger` or the answer to a
   * callback shows. An admin of 2.2 can't be recognised: set `2.2` for it.
   */
  readonly version?: ProtocolVersion;
  /**
   * The service's knex, whose database keeps the logs and the job ends that no admin has accepted yet. It needs the tables of `xxlJobSchema`.
   * Executors with one `appName` share it: if one has died, another reports its ends. Default: the files of `folder`.
   */
  readonly knex?: Knex;
  /**
   * Without `knex`: the folder of logs and of job ends that no admin has accepted yet. It must outlive the process, and no other executor may
   * use it. Default: a folder for `appName` in the system's temporary folder, which a container loses with its end.
   */
  readonly folder?: string;
  /**
   * How long `stop` waits for running jobs before it ends them: their signals abort, and 500 is reported. Runs that wait behind them are ended
   * at once. Default 0: a job of an admin may run for hours. Set it below the time that your platform gives a process to end.
   */
  readonly stopTimeout?: Duration;
  /** Logs, and ends that no admin has accepted, are deleted after this number of days; the ends with a warning. Default 30. */
  readonly keepDays?: number;
  /** The time zone of the times in logs, such as `'Asia/Shanghai'`. Default: the zone of this process. */
  readonly timeZone?: string;
  readonly logger?: Logger;
}

const graceMs = 5_000;
const loopback = '127.0.0.1';

/** Where logs and ends are kept, from the start to the stop. */
interface Kept {
  readonly database: Database | undefined;
  readonly log: JobLog;
  readonly ends: EndStore;
  readonly delivery: EndDelivery;
}

/** An executor: it lets an xxl-job admin run handlers of this process. */
export class Executor implements Service {
  readonly #options: ExecutorOptions;
  readonly #logger: Logger;
  readonly #handlers: ReadonlyMap<string, JobHandler>;
  readonly #queues = new Map<string, JobQueue>();
  readonly #clock: Intl.DateTimeFormat;
  readonly #admin: AdminClient;
  readonly #stopMs: number;
  readonly #registry: Loop<number>;
  readonly #purge: Loop<void>;
  readonly #deliver: Loop<number>;
  readonly #lifecycle: Service;
  #kept: Kept | undefined;
  #stopping = false;
  /** Aborts when `stop` waits for nothing but the writes of ends. */
  #ending = new AbortController();
  #server: Server | undefined;
  #host: string;
  #port = 0;
  /** The last write of a job's end, behind which the next one waits. */
  #storing: Promise<void> = Promise.resolve();

  constructor(options: ExecutorOptions) {
    if (!Array.isArray(options?.admins) || options.admins.some((admin) => !/^https?:\/\//.test(admin)))
      throw new InvalidArgumentError("admins must be addresses such as ['http://xxl.example/xxl-job-admin'].");
    if (typeof options.appName !== 'string' || !/^[A-Za-z0-9._-]{4,64}$/.test(options.appName))
      throw new InvalidArgumentError(
        `appName is ${JSON.stringify(options.appName)}; an admin takes 4 to 64 letters, digits, dots, dashes and underscores.`,
      );
    for (const [name, handler] of Object.entries(options.handlers ?? {}))
      if (typeof handler !== 'function') throw new InvalidArgumentError(`The handler ${name} is ${typeof handler}; give a function.`);
    if (options.version !== undefined && !protocolVersions.includes(options.version))
      throw new InvalidArgumentError(`version is ${JSON.stringify(options.version)}; give one of ${protocolVersions.join(', ')}.`);
    if (options.address !== undefined && !URL.canParse(options.address))
      throw new InvalidArgumentError(`address is ${JSON.stringify(options.address)}; give one such as 'http://10.0.0.7:9999/'.`);
    this.#options = options;
    this.#host = options.host ?? loopback;
    this.#stopMs = durationMs(options.stopTimeout ?? 0, 'stopTimeout');
    this.#logger = guardLogger(options.logger);
    this.#handlers = new Map(Object.entries(options.handlers ?? {}));
    if (options.knex && options.folder !== undefined)
      throw new InvalidArgumentError('Give knex or folder, not both: one of them keeps logs and ends.');
    this.#clock = logClock(options.timeZone);
    this.#admin = new AdminClient({
      admins: options.admins,
      appName: options.appName,
      accessToken: options.accessToken,
      address: () => this.address,
      version: options.version,
      logger: this.#logger,
    });
    this.#deliver = defineLoop({
      name: 'xxl-job callbacks',
      logger: this.#logger,
      runOnce: () => this.#stores.delivery.deliver(),
      busy: (taken) => taken > 0,
      minMs: 200,
      maxMs: 3_000,
    });
    this.#registry = defineLoop({
      name: 'xxl-job registry',
      logger: this.#logger,
      runOnce: ({ signal }) => this.#admin.register(signal),
      pauseMs: (taken) => (taken === 0 ? 3_000 : 30_000),
    });
    this.#purge = defineLoop({
      name: 'xxl-job logs',
      logger: this.#logger,
      runOnce: ({ signal }) => this.#purgeOld(options.keepDays ?? 30, signal),
      pauseMs: () => 3_600_000,
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** The address at which the admin calls this executor. */
  get address(): string {
    return this.#options.address ?? httpAddress(this.#host, this.#port);
  }

  /** Listens for requests of the admins and registers with them. */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /**
   * Takes no further job, unregisters from the admins, waits for running jobs up to `stopTimeout`, ends the rest, and reports their ends. Ends
   * that no admin accepts are reported at the next start.
   */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Calls `stop`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  async #start(): Promise<void> {
    this.#kept = await this.#openStores();
    try {
      await this.#listen();
    } catch (error) {
      await this.#kept.database?.close();
      throw error;
    }
    await this.#findHost();
    this.#ending = new AbortController();
    this.#stopping = false;
    for (const loop of [this.#registry, this.#deliver, this.#purge]) await loop.start();
  }

  async #listen(): Promise<void> {
    const server = createServer(serveAdmin(this.#operations, this.#options.accessToken));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#options.port ?? 9_999, this.#options.host ?? loopback, resolve);
    });
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** @throws MigrationRequiredError if tables are missing */
  async #openStores(): Promise<Kept> {
    const { knex, appName, folder = join(tmpdir(), 'holdfast-xxl-job', appName) } = this.#options;
    const database = knex && new Database({ knex, loopConnections: 2 });
    try {
      if (database) await checkTables(database, [xxlJobSchema], this.#logger);
    } catch (error) {
      await database?.close();
      throw error;
    }
    const logs = database ? new LogTable(database, appName) : new LogFiles(join(folder, 'logs'));
    const ends = database ? new EndTable(database, appName) : new EndFiles(join(folder, 'ends'), this.#logger);
    const log = new JobLog(logs, this.#clock, this.#logger);
    return { database, log, ends, delivery: new EndDelivery(ends, this.#admin, this.#logger) };
  }

  get #stores(): Kept {
    if (!this.#kept) throw new Error('the executor was not started');
    return this.#kept;
  }

  /** Finds the host to register, and warns if admins can't reach it: they would show the executor as registered, and every trigger would fail. */
  async #findHost(): Promise<void> {
    const { admins, address, host } = this.#options;
    const given = address === undefined ? undefined : URL.parse(address)?.hostname;
    const found = await ownHost(given === undefined || isWildcard(given) ? (host ?? loopback) : given, admins);
    if (given === undefined) this.#host = found.host;
    if (found.unreached.length > 0 || (given !== undefined && isWildcard(given)))
      this.#logger.warn(
        { address: this.address, admins: found.unreached.length > 0 ? found.unreached : admins },
        `the executor registers ${this.address}, which admins on other machines can't reach; set host to '0.0.0.0' and give an accessToken, or set address to one that they reach`,
      );
  }

  async #stop(): Promise<void> {
    // Before anything is awaited: a job that is taken from here on would run when nobody waits for it.
    this.#stopping = true;
    const queues = [...this.#queues.values()];
    for (const queue of queues) queue.drop('The executor is stopping.');
    const quiet = Promise.all(queues.map((queue) => queue.quiet()));
    const unregistered = this.#registry.stop().then(() => this.#admin.unregister());
    // Until the jobs have ended, the admin may kill them and read their logs, and is told of those that end.
    await settledWithin(this.#stopMs, quiet);
    for (const queue of queues) queue.kill('The executor is stopping.');
    await quiet;
    await unregistered;
    await Promise.all([this.#deliver.stop(), this.#purge.stop()]);
    await this.#stores.log.flush();
    this.#ending.abort();
    await this.#storing;
    await this.#stores.delivery
      .deliver()
      .catch((err) => this.#logger.warn({ err }, 'results of the last jobs will be reported at the next start'));
    const server = this.#server;
    this.#server = undefined;
    server?.closeAllConnections();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    await this.#stores.database?.close();
  }

  /** Stores the end of a run. If that fails it tells the admin at once, and tries both again until the executor stops. */
  async #keep(end: JobEnd): Promise<void> {
    for (let pauseMs = 200; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      const last = this.#ending.signal.aborted;
      try {
        await this.#stores.ends.add(end);
        this.#deliver.wake();
        return;
      } catch (err) {
        const told = await this.#admin.callback([end]).then(
          () => true,
          () => false,
        );
        if (told) return;
        const fields = { err, logId: end.logId };
        if (last)
          return this.#logger.error(fields, 'the end of a run could not be stored, and no admin took it: the admin will not be told');
        this.#logger.warn(fields, 'the end of a run could not be stored, and no admin took it; trying again');
      }
      await wait(pauseMs, this.#ending.signal).catch(() => undefined);
    }
  }

  async #purgeOld(days: number, signal: AbortSignal): Promise<void> {
    await this.#stores.log.purge(days, signal);
    const ends = await this.#stores.ends.purge(days, signal);
    if (ends > 0)
      this.#logger.warn({ ends, days }, 'ends of runs that no admin has accepted were deleted, because they are older than keepDays');
  }

  readonly #operations: AdminOperations = {
    isStopping: () => this.#stopping,
    trigger: (body, path) => {
      // Earlier versions call /run, and answers to callbacks tell them apart.
      if (path === 'trigger') this.#admin.learn('3.5');
      return this.#trigger(body);
    },
    busy: (jobId) => this.#queues.get(jobId)?.busy ?? false,
    kill: (jobId) => this.#queues.get(jobId)?.kill('The job was killed from the admin.'),
    log: (logId, fromLine) => {
      const ended = ![...this.#queues.values()].some((queue) => queue.has(logId));
      return this.#stores.log.read(logId, fromLine, ended);
    },
  };

  #trigger(body: unknown): string | undefined {
    const request = readTrigger(body);
    if (request.glueType !== 'BEAN')
      return `Jobs of type ${request.glueType} are scripts from the admin, which this executor does not run; use BEAN.`;
    const handler = this.#handlers.get(request.executorHandler);
    if (!handler)
      return `There is no job handler ${JSON.stringify(request.executorHandler)}; known handlers: ${[...this.#handlers.keys()].join(', ') || 'none'}.`;
    let queue = this.#queues.get(request.jobId);
    if (!queue) {
      queue = new JobQueue({
        graceMs,
        log: (logId, text) => this.#stores.log.append(logId, text),
        ended: (end) => {
          this.#storing = this.#storing.then(() => this.#keep(end));
        },
      });
      this.#queues.set(request.jobId, queue);
    }
    return queue.add(request, handler);
  }
}

/** Creates an executor. @throws InvalidArgumentError */
export function createExecutor(options: ExecutorOptions): Executor {
  return new Executor(options);
}
