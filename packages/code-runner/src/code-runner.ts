import {
  checkTables,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  durationMs,
  type EventSource,
  Events,
  guardLogger,
  InvalidArgumentError,
  type Logger,
  openDatabase,
  type Waker,
} from '@holdfast/core';
import { type Authorize, answeringIn, ownersOnly } from './access.ts';
import type { CodeRunnerEvents } from './events.ts';
import type { Executor } from './executor/executor.ts';
import type { Language } from './languages/language.ts';
import { RunInspection } from './operate/inspect.ts';
import { Retention } from './operate/retention.ts';
import { databaseQueue } from './queue/database-queue.ts';
import type { RunQueue, RunQueueOf } from './queue/run-queue.ts';
import { createRoutes, type Routes, type RoutesOptions } from './routes/routes.ts';
import { EventLog } from './runs/event-log.ts';
import { executionSpec } from './runs/execution-spec.ts';
import { failUnroutable } from './runs/fail-undelivered.ts';
import { type Pool, type PoolOptions, poolOf } from './runs/limits.ts';
import type { RunRow } from './runs/run.ts';
import { RunFolders } from './runs/run-folders.ts';
import { RunTable } from './runs/run-table.ts';
import { RunWakes } from './runs/run-wakes.ts';
import { Runs } from './runs/runs.ts';
import { codeRunnerSchema } from './schema.ts';
import { BlobTable } from './store/blob-table.ts';
import { Blobs } from './store/blobs.ts';
import { databaseFiles, type FileStoreOf } from './store/database-files.ts';
import type { FileStore } from './store/file-store.ts';
import { TaskFiles } from './tasks/files.ts';
import { defaultTaskLimits, type TaskLimits } from './tasks/limits.ts';
import { TaskTable } from './tasks/task-table.ts';
import { Tasks } from './tasks/tasks.ts';
import { RunnerWorker } from './worker/worker.ts';
import type { WorkerOptions } from './worker/worker-options.ts';

/** Options of {@link createCodeRunner}. */
export interface CodeRunnerOptions extends DatabaseOptions {
  /** Runs the programs: `localSandbox()` or `kubernetes()`. Workers need one; a process that only submits runs does not. */
  readonly executor?: Executor;
  /** The languages that tasks may be written in: `python()`, `r()`, `scala()`, or `defineLanguage()`. At least one. */
  readonly languages: readonly Language[];
  /** Stores the contents of files, logs and results. Default: {@link databaseFiles}, which keeps them in the database of `knex`. */
  readonly files?: FileStoreOf;
  /** Tells workers about new runs. Default: {@link databaseQueue}. Without a signal, workers find a run by polling. */
  readonly queue?: RunQueueOf;
  /** Pools of slots by name. A submit that names no pool uses the first. Default `{ small: { slots: 4 } }`. */
  readonly pools?: Readonly<Record<string, PoolOptions>>;
  /** Decides whether an actor may do something to a task. Default: {@link ownersOnly}, which allows the owner of the task everything. */
  readonly authorize?: Authorize;
  /** How long the promise of `authorize` is waited for. Then the call fails with CallTimeoutError, over HTTP with 503. Default 10 s. */
  readonly callTimeout?: Duration;
  /** Limits on the files of a task. Default: {@link defaultTaskLimits}. A write above a limit fails with LimitExceededError. */
  readonly limits?: Partial<TaskLimits>;
  /**
   * Ended runs: `'all'` keeps them, a duration lets the sweep of the workers delete older ones with their logs, results and events, and tasks
   * that were removed and have no run left. Default 180 days.
   */
  readonly keepRuns?: 'all' | Duration;
  /**
   * How long the sweep of the workers leaves a stored content that no file and no kept run refers to: an upload in progress, a file that was
   * overwritten. It is removed between one and two of these periods after the last reference has gone. An upload that takes longer is sent
   * again. Default 1 day, at least 1 minute.
   */
  readonly keepUnused?: Duration;
  /** The longest time that a run may wait for a slot. Then it fails with the reason QUEUE_EXPIRED. Default 24 hours. */
  readonly queueTimeout?: Duration;
  /**
   * Carries wake-ups to workers and readers in other processes. Default: LISTEN on Postgres, the version of the database file on
   * SQLite. On MySQL and MariaDB there is no default: other processes poll twice a second.
   */
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
  readonly #retention: Retention;
  readonly #folders: RunFolders;

  constructor(options: CodeRunnerOptions) {
    this.#options = options;
    this.database = openDatabase(options);
    this.#logger = guardLogger(options.logger);
    if (!Array.isArray(options.languages) || options.languages.length === 0)
      throw new InvalidArgumentError('languages is empty; pass the languages that programs may be written in, as in [python(), r()].');
    this.languages = new Map(options.languages.map((language) => [language.name, language]));
    const pools = Object.entries(options.pools ?? { small: {} });
    if (pools.length === 0) throw new InvalidArgumentError('pools is empty; name at least one pool, as in { small: { slots: 4 } }.');
    this.pools = new Map(pools.map(([name, pool]) => [name, poolOf(name, pool)]));
    const authorize = answeringIn(options.authorize ?? ownersOnly, durationMs(options.callTimeout ?? '10s', 'callTimeout'));
    const limits: TaskLimits = { ...defaultTaskLimits, ...options.limits };
    const keepRunsMs = options.keepRuns === 'all' ? undefined : durationMs(options.keepRuns ?? '180d', 'keepRuns');
    const graceMs = Math.max(60_000, durationMs(options.keepUnused ?? '1d', 'keepUnused'));
    this.#events = new Events(this.#logger);
    this.#wakes = new RunWakes({
      database: this.database,
      waker: options.waker,
      pools: () => this.pools.keys(),
      logger: this.#logger,
    });
    this.#store = (options.files ?? databaseFiles())(this.database);
    const blobTable = new BlobTable(this.database, graceMs);
    this.#blobs = new Blobs({ store: this.#store, table: blobTable, graceMs });
    this.#folders = new RunFolders(this.#blobs, this.#logger);
    this.#retention = new Retention({ database: this.database, blobs: this.#blobs, blobTable, keepRunsMs, logger: this.#logger });
    this.#queue = (options.queue ?? databaseQueue())({
      send: (pool) => this.#wakes.signalPool(pool),
      listen: (onSignal) => this.#wakes.onPoolSignal(onSignal),
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
      blobTable,
      log: this.#log,
      folders: this.#folders,
      watch: (runId) => this.#wakes.watch(runId),
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
      keepRunsMs,
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

  /** Creates a worker; start it with `await worker.start()`. Any number of workers, in any number of processes, share the pools. */
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
        spec: async (run) => {
          await this.#folders.ensure(run);
          return executionSpec(run, this.languages, this.#blobs);
        },
        changed: (runId) => this.#wakes.changed(runId),
        watch: (runId) => this.#wakes.watchStop(runId),
        signalOthers: (pool) => this.#wakes.signalOthers(pool),
        reliable: () => this.#wakes.reliable,
        retain: (signal) => this.#retention.pass(signal),
        check: () => this.check(),
        events: this.#events,
        logger: this.#logger,
      },
      options,
    );
    this.#workers.add(worker);
    return worker;
  }

  /** Serves REST and server-sent events as a fetch handler, with an OpenAPI document. */
  routes(options: RoutesOptions): Routes {
    return createRoutes(this, this.#logger, options);
  }

  /**
   * Checks the executor, the file store and the queue, and names them.
   * @throws ExecutorUnavailableError, FileStoreError that say what is missing and how to fix it
   */
  async status(): Promise<{ readonly executor: string; readonly files: string; readonly queue: string }> {
    const [isolation] = await Promise.all([this.#options.executor?.probe(), this.#store.probe(), this.#queue.probe()]);
    return { executor: isolation?.summary ?? 'elsewhere', files: this.#store.name, queue: this.#queue.name };
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, codeRunnerSchema], this.#logger);
  }

  /** Stops the workers and closes the connections of this package. The `knex` that you passed stays open. */
  async close(): Promise<void> {
    // Together: a worker whose handlers hang must not hold up the stop of the next.
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    await this.#options.executor?.close();
    await this.#queue.close();
    await this.#wakes.close();
    await this.database.close();
  }

  /** Calls `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #unroutable(run: RunRow): Promise<void> {
    const message = `No queue of ${this.#queue.name} is bound for the pool ${run.pool}`;
    this.#events.emit('queue:unroutable', { runId: run.id, message });
    await failUnroutable(this.#table, run, message, { changed: (runId) => this.#wakes.changed(runId), logger: this.#logger });
  }
}

/**
 * Creates a runner of users' programs over the tables of {@link codeRunnerSchema}.
 * @throws InvalidArgumentError
 */
export function createCodeRunner(options: CodeRunnerOptions): CodeRunner {
  return new CodeRunner(options);
}
