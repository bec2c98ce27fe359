import {
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  defaultLogger,
  durationMs,
  type EventSource,
  Events,
  InvalidArgumentError,
  type Logger,
  openDatabase,
  type Waker,
} from '@holdfast/core';
import { type Authorize, ownersOnly } from './access.ts';
import type { CodeRunnerEvents } from './events.ts';
import type { Executor } from './executor/executor.ts';
import type { Language } from './languages/language.ts';
import { RunInspection } from './operate/inspect.ts';
import { databaseQueue } from './queue/database-queue.ts';
import type { RunQueue, RunQueueOf } from './queue/run-queue.ts';
import { createRoutes, type Routes, type RoutesOptions } from './routes/routes.ts';
import { EventLog } from './runs/event-log.ts';
import { executionSpec } from './runs/execution-spec.ts';
import { failUnroutable } from './runs/fail-undelivered.ts';
import { type Pool, type PoolOptions, poolOf } from './runs/limits.ts';
import type { RunRow } from './runs/run.ts';
import { RunTable } from './runs/run-table.ts';
import { RunWakes } from './runs/run-wakes.ts';
import { Runs } from './runs/runs.ts';
import { codeRunnerSchema } from './schema.ts';
import { Blobs } from './store/blobs.ts';
import { databaseFiles, type FileStoreOf } from './store/database-files.ts';
import type { FileStore } from './store/file-store.ts';
import { TaskFiles } from './tasks/files.ts';
import { defaultTaskLimits, type TaskLimits } from './tasks/limits.ts';
import { TaskTable } from './tasks/task-table.ts';
import { Tasks } from './tasks/tasks.ts';
import { RunnerWorker } from './worker/worker.ts';
import type { WorkerOptions } from './worker/worker-options.ts';

/** Where a runner keeps its rows and files, what it can run, and where. */
export interface CodeRunnerOptions extends DatabaseOptions {
  /** Where programs run: `localSandbox()`, `kubernetes()`. A process that only submits needs none. */
  readonly executor?: Executor;
  readonly languages: readonly Language[];
  /** Where contents are kept. Default: {@link databaseFiles}. */
  readonly files?: FileStoreOf;
  /** What wakes workers. Default: {@link databaseQueue}. */
  readonly queue?: RunQueueOf;
  /** Slots and limits by name; the first is the default. Default `{ small: { slots: 4 } }`. */
  readonly pools?: Readonly<Record<string, PoolOptions>>;
  /** Who may do what. Default: everybody has their own tasks. */
  readonly authorize?: Authorize;
  /** How large tasks may get. */
  readonly limits?: Partial<TaskLimits>;
  /** How long a run may wait for a slot. Default 24 hours. */
  readonly queueTimeout?: Duration;
  /** Tells workers and readers in other processes. Default: LISTEN on Postgres, the file's version on SQLite; else they look every second. */
  readonly waker?: Waker;
  readonly logger?: Logger;
}

/** Tasks, their files and their runs. */
export class CodeRunner {
  readonly database: Database;
  readonly tasks: Tasks;
  readonly files: TaskFiles;
  readonly runs: Runs;
  readonly languages: ReadonlyMap<string, Language>;
  readonly pools: ReadonlyMap<string, Pool>;
  readonly #options: CodeRunnerOptions;
  readonly #logger: Logger;
  readonly #store: FileStore;
  readonly #blobs: Blobs;
  readonly #queue: RunQueue;
  readonly #table: RunTable;
  readonly #log: EventLog;
  readonly #events: Events<CodeRunnerEvents>;
  readonly #wakes: RunWakes;
  readonly #inspection: RunInspection;
  readonly #workers = new Set<RunnerWorker>();

  constructor(options: CodeRunnerOptions) {
    this.#options = options;
    this.database = openDatabase(options);
    this.#logger = options.logger ?? defaultLogger;
    if (!Array.isArray(options.languages) || options.languages.length === 0)
      throw new InvalidArgumentError('languages is empty; pass those that programs may be written in, as in [python(), r()].');
    this.languages = new Map(options.languages.map((language) => [language.name, language]));
    const pools = Object.entries(options.pools ?? { small: {} });
    if (pools.length === 0) throw new InvalidArgumentError('pools is empty; name at least one, as in { small: { slots: 4 } }.');
    this.pools = new Map(pools.map(([name, pool]) => [name, poolOf(name, pool)]));
    const authorize = options.authorize ?? ownersOnly;
    const limits: TaskLimits = { ...defaultTaskLimits, ...options.limits };
    this.#events = new Events(this.#logger);
    this.#wakes = new RunWakes({
      database: this.database,
      waker: options.waker,
      pools: () => this.pools.keys(),
      logger: this.#logger,
    });
    this.#store = (options.files ?? databaseFiles())(this.database);
    this.#blobs = new Blobs(this.#store);
    this.#queue = (options.queue ?? databaseQueue())({
      ring: (pool) => this.#wakes.ring(pool),
      listen: (heard) => this.#wakes.onPool(heard),
    });
    const table = new TaskTable(this.database, limits);
    this.#table = new RunTable(this.database);
    this.#log = new EventLog({
      database: this.database,
      runs: this.#table,
      store: this.#store,
      watch: (runId) => this.#wakes.watch(runId),
    });
    this.tasks = new Tasks({
      database: this.database,
      table,
      blobs: this.#blobs,
      languages: this.languages,
      limits,
      authorize,
      endRuns: (taskId, actor) => this.runs.endOf(taskId, actor),
    });
    this.files = new TaskFiles({ tasks: this.tasks, table, blobs: this.#blobs, limits });
    this.runs = new Runs({
      database: this.database,
      runs: this.#table,
      table,
      tasks: this.tasks,
      blobs: this.#blobs,
      log: this.#log,
      queue: this.#queue,
      pools: this.pools,
      authorize,
      queueMs: durationMs(options.queueTimeout ?? '24h', 'queueTimeout'),
      changed: (runId) => this.#wakes.changed(runId),
      stop: (runId) => this.#wakes.stop(runId),
      unroutable: (run) => this.#unroutable(run),
      logger: this.#logger,
    });
    this.#inspection = new RunInspection({
      database: this.database,
      runs: this.#table,
      log: this.#log,
      changed: (runId) => this.#wakes.changed(runId),
      stop: (runId) => this.#wakes.stop(runId),
    });
  }

  get events(): EventSource<CodeRunnerEvents> {
    return this.#events;
  }

  /** The runs of all people, for an operator's console and the `holdfast` command. */
  inspect(): RunInspection {
    return this.#inspection;
  }

  /** A worker: start it with `await worker.start()`. As many as you like, in as many processes, share the pools. */
  worker(options: WorkerOptions = {}): RunnerWorker {
    const { executor } = this.#options;
    if (!executor) throw new InvalidArgumentError('A worker needs an executor; pass one to createCodeRunner, such as localSandbox().');
    const worker = new RunnerWorker(
      {
        runs: this.#table,
        log: this.#log,
        executor,
        store: this.#store,
        queue: this.#queue,
        pools: this.pools,
        spec: (run) => executionSpec(run, this.languages, this.#blobs),
        changed: (runId) => this.#wakes.changed(runId),
        watch: (runId) => this.#wakes.watchOrders(runId),
        ringOthers: (pool) => this.#wakes.ringOthers(pool),
        reliable: () => this.#wakes.reliable,
        check: () => this.check(),
        events: this.#events,
        logger: this.#logger,
      },
      options,
    );
    this.#workers.add(worker);
    return worker;
  }

  /** REST and server-sent events as a fetch handler, with an OpenAPI document. */
  routes(options: RoutesOptions): Routes {
    return createRoutes(this, this.#logger, options);
  }

  /**
   * Where programs run and contents are kept, asked afresh.
   * @throws ExecutorUnavailableError, FileStoreError that say what is missing and what to do
   */
  async status(): Promise<{ readonly executor: string; readonly files: string; readonly queue: string }> {
    const [isolation] = await Promise.all([this.#options.executor?.probe(), this.#store.probe(), this.#queue.probe()]);
    return { executor: isolation?.summary ?? 'elsewhere', files: this.#store.name, queue: this.#queue.name };
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    const { warnings } = await this.database.describe();
    for (const warning of warnings) this.#logger.warn({}, warning);
    const newer = await checkMigrated(this.database, [coreSchema, codeRunnerSchema]);
    if (newer.length > 0)
      this.#logger.warn({ newer }, 'the tables were migrated by a newer version; this one goes on, since migrations only add');
  }

  /** Stops workers and ends the connections. The service's knex stays open. */
  async close(): Promise<void> {
    for (const worker of this.#workers) await worker.stop();
    await this.#options.executor?.close();
    await this.#queue.close();
    await this.#wakes.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #unroutable(run: RunRow): Promise<void> {
    const message = `Nothing is bound to the queue ${this.#queue.name} rings for the pool ${run.pool}`;
    this.#events.emit('queue:unroutable', { runId: run.id, message });
    await failUnroutable(this.#table, run, message, { changed: (runId) => this.#wakes.changed(runId), logger: this.#logger });
  }
}

/**
 * Runs users' programs, over the tables of {@link codeRunnerSchema}.
 * @throws InvalidArgumentError
 */
export function createCodeRunner(options: CodeRunnerOptions): CodeRunner {
  return new CodeRunner(options);
}
