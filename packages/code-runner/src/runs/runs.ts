import type { Readable } from 'node:stream';
import {
  checkpoint,
  type Database,
  type Duration,
  fitKey,
  InvalidArgumentError,
  keyText,
  type Logger,
  Once,
  shownValue,
  unfitText,
} from '@holdfast/core';
import { type As, type Authorized, actorOf, allow } from '../access.ts';
import { LiveRunError, NoMainFileError, NotFoundError, RunEndedError } from '../errors.ts';
import { filePath } from '../files/path.ts';
import { commandOf } from '../languages/language.ts';
import type { RunQueue } from '../queue/run-queue.ts';
import { isId, pageSize } from '../row-ids.ts';
import type { BlobTable } from '../store/blob-table.ts';
import type { Blobs } from '../store/blobs.ts';
import { checkDataSets } from '../tasks/data-sets.ts';
import type { TaskTable } from '../tasks/task-table.ts';
import type { Tasks } from '../tasks/tasks.ts';
import { writeZip } from '../zip/write-zip.ts';
import { checkArgv, splitCommand, withArguments } from './argv.ts';
import { awaitEnd, waitOf } from './await-end.ts';
import { type EventLog, logObject } from './event-log.ts';
import { checkInput, type RunInput } from './input.ts';
import { limitsWithin, type Pool, type RunLimits } from './limits.ts';
import { freeze, manifestOf, thaw } from './manifest.ts';
import type { RunRow } from './run.ts';
import type { RunEvent } from './run-event.ts';
import type { RunFolders } from './run-folders.ts';
import { type ListedRun, listedViewOf, type Run, viewOf } from './run-view.ts';
import type { RunWatch } from './run-watches.ts';
import { type StopHost, stopRun } from './stop-run.ts';

/** Options of {@link Runs.submit}. */
export interface Submit extends As, RunInput {
  /** Program and arguments to run in `/code`. Default: the task's main file. */
  readonly argv?: readonly string[];
  /** `argv` as one line, for older clients. It is split at blanks outside of quotes, and never given to a shell. */
  readonly execCommand?: string;
  /**
   * Arguments of the task's main file: a list, or one line, which is split as `execCommand` is. The run's `argv` then names the main file's
   * command with them. Not together with `argv` or `execCommand`. Default: none.
   */
  readonly args?: readonly string[] | string;
  /** A note that is kept with the run. At most 2,000 characters. */
  readonly remarks?: string;
  /** -9 to 9; runs with a higher number start first. Default 0. */
  readonly priority?: number;
  /** The pool whose slots the run uses. Default: the first pool of the runner. */
  readonly pool?: string;
  /** Limits below those of the pool. `timeout` is `timeoutMs` as a duration, such as `'5m'`. Default: the pool's limits. */
  readonly limits?: Partial<RunLimits> & { readonly timeout?: Duration };
  /**
   * Waits for the end of the run, for at most this long, and returns the run as it is then: ended or not. At most 5 minutes. A run that fails
   * is returned, not thrown. Default 0: the run is returned queued.
   */
  readonly wait?: Duration;
  /** Ends the wait early, never the run: `submit` returns the run as it is then. */
  readonly signal?: AbortSignal;
  /** A submit with the same key within a day returns the run of the first submit. At most 100 characters. */
  readonly idempotencyKey?: string;
}

export interface RunsOptions extends StopHost {
  readonly database: Database;
  readonly table: TaskTable;
  readonly tasks: Tasks;
  readonly blobs: Blobs;
  readonly blobTable: BlobTable;
  readonly log: EventLog;
  readonly folders: RunFolders;
  readonly watch: (runId: string) => RunWatch;
  readonly queue: RunQueue;
  readonly pools: ReadonlyMap<string, Pool>;
  readonly authorize: Authorized;
  readonly queueMs: number;
  readonly unroutable: (run: RunRow) => Promise<void>;
  readonly logger: Logger;
}

const onceScope = 'code-runner/submit';

/** Submits, reads, follows and stops runs. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #once: Once;

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#once = new Once(options.database);
  }

  /**
   * Takes a snapshot of the task's files and queues a run of it. Later edits of the task do not change the run.
   * @throws NotFoundError, ForbiddenError, NoMainFileError, LiveRunError, InvalidArgumentError
   */
  async submit(taskId: string, submit: Submit): Promise<Run> {
    const { database, runs, table, tasks, blobs, queueMs, authorize } = this.#options;
    let task = await tasks.allowed(taskId, submit, 'run');
    // The right to an object may have ended since it was attached.
    await checkDataSets(authorize, task.owner, task, task.dataSets);
    const actor = actorOf(submit);
    const waitMs = waitOf(submit.wait);
    const pool = this.#pool(submit.pool);
    const limits = limitsWithin(pool, submit.limits);
    const { priority = 0, remarks = null } = submit;
    if (!Number.isInteger(priority) || priority < -9 || priority > 9)
      throw new InvalidArgumentError(`priority is ${shownValue(priority)}; give a whole number from -9 to 9.`);
    if (remarks !== null && (typeof remarks !== 'string' || remarks.length > 2_000 || unfitText(remarks)))
      throw new InvalidArgumentError(`remarks must be a string of at most 2,000 characters without NUL; got ${describeText(remarks)}.`);
    if ([submit.argv, submit.execCommand, submit.args].filter((one) => one !== undefined).length > 1)
      throw new InvalidArgumentError('Give one of argv, execCommand and args: argv and execCommand are the whole command.');
    const argv = submit.argv !== undefined ? checkArgv(submit.argv) : submit.execCommand ? splitCommand(submit.execCommand) : null;
    const input = checkInput(submit);
    const key =
      submit.idempotencyKey === undefined
        ? undefined
        : fitKey(`${taskId}/${actor}/${keyText('idempotencyKey', submit.idempotencyKey, 100)}`);
    // Outside of the transaction, since storing contents takes long and the transaction locks the task's row.
    for (;;) {
      const files = await table.files.all(taskId);
      const known = files.some(({ path }) => path === task.main);
      if (argv === null && !known)
        throw new NoMainFileError(
          task.main === null
            ? 'The task has no main file. Choose one (setMain), or give argv.'
            : `The main file ${task.main} does not exist. Write it, choose another (setMain), or give argv.`,
        );
      const manifestHash = await freeze(this.#options, files, task.dataSets, input);
      await checkpoint('runner:frozen');
      const run = await database
        .transaction(async (sql) => {
          const now = await table.lock(sql, taskId);
          if (now.version !== task.version) return undefined;
          if ((await blobs.gone(sql, [manifestHash])).length > 0) return undefined;
          if (key !== undefined) {
            const entry = await this.#once.enter(sql, onceScope, key, 86_400_000);
            if (!entry.first && entry.ref !== null) return { run: await runs.get(entry.ref, sql), fresh: false };
          }
          const made = await runs.submit(sql, {
            taskId,
            actor,
            draftRunId: now.draftRunId,
            pool: pool.name,
            priority,
            language: now.language,
            main: now.main ?? '',
            argv:
              submit.args === undefined ? argv : withArguments(commandOf(tasks.language(now.language), now.main ?? '', null), submit.args),
            remarks,
            limits,
            manifestHash,
            queueMs,
          });
          if (now.draftRunId !== null) await table.set(sql, taskId, { draft_run_id: null });
          if (key !== undefined) await this.#once.setRef(sql, onceScope, key, made.id);
          return { run: made, fresh: true };
        })
        .catch(async (error) => {
          // Two submits at the same moment: the unique index accepted one. Name it.
          if (!LiveRunError.is(error, 'live-run') || (error as LiveRunError).runId !== undefined) throw error;
          const [live] = await runs.where("task_id = ? AND actor = ? AND phase NOT IN ('draft', 'terminal')", [taskId, actor]);
          throw new LiveRunError(error.message, live?.id);
        });
      // The task was edited in between, or the sweep removed the manifest: take another snapshot.
      if (!run) {
        task = await table.get(taskId);
        await checkDataSets(authorize, task.owner, task, task.dataSets);
        continue;
      }
      if (run.fresh) {
        this.#options.changed(run.run.id);
        await Promise.all([this.#signal(run.run), this.#options.folders.write(run.run, manifestOf(files, task.dataSets, input))]);
      }
      const { signal } = submit;
      return viewOf(waitMs === 0 ? run.run : await awaitEnd(runs, this.#options.watch, run.run.id, waitMs, signal));
    }
  }

  /** @throws NotFoundError */
  async get(id: string, as: As): Promise<Run> {
    return viewOf(await this.#allowed(id, as, 'read'));
  }

  /**
   * Runs of a task, or the actor's own runs of all tasks; newest first. `before` is the last id of the previous page. `limit` is 50 by
   * default and at most 200. Drafts are left out by default, the files that runs left always: `get` has them.
   */
  async list(
    as: As,
    query: { readonly taskId?: string; readonly before?: string; readonly limit?: number; readonly drafts?: boolean } = {},
  ): Promise<readonly ListedRun[]> {
    const actor = actorOf(as);
    const where: string[] = [];
    const params: unknown[] = [];
    if (query.taskId === undefined) {
      where.push('actor = ?');
      params.push(actor);
    } else {
      await this.#options.tasks.allowed(query.taskId, as, 'read');
      where.push('task_id = ?');
      params.push(query.taskId);
    }
    if (!query.drafts) where.push("phase <> 'draft'");
    if (query.before !== undefined) {
      where.push('id < ?');
      params.push(isId(query.before) ? query.before : '0');
    }
    const limit = pageSize(query.limit);
    return (await this.#options.runs.where(where.join(' AND '), params, { order: 'newest', limit })).map(listedViewOf);
  }

  /**
   * Yields the events of a run after number `after` (default 0), then new ones until the run ends: changes of state and printed bytes.
   * A reader that continues with the number of its last event gets each event once. With `follow: false`, only past events are yielded.
   * @throws NotFoundError
   */
  async *events(
    id: string,
    options: As & { readonly after?: number; readonly signal?: AbortSignal; readonly follow?: boolean },
  ): AsyncGenerator<RunEvent> {
    const after = options.after ?? 0;
    if (!Number.isInteger(after) || after < 0)
      throw new InvalidArgumentError(`after is ${shownValue(options.after)}; give the number of an event, or 0.`);
    await this.#allowed(id, options, 'read');
    yield* this.#options.log.follow(id, after, { signal: options.signal, wait: options.follow ?? true });
  }

  /**
   * Returns a zip archive with the files from `/out`, the log, and the code of the run. The archive is packed while it is read.
   * @throws NotFoundError
   */
  async download(id: string, as: As): Promise<Readable> {
    const run = await this.#allowed(id, as, 'read');
    const { blobs } = this.#options;
    if (run.manifestHash === null) throw new NotFoundError(`The run ${id} was never submitted; it has nothing to download.`);
    const manifest = await thaw(blobs, run.manifestHash);
    const files = (run.output?.files ?? []).map(({ path }) => ({
      path: `out/${path}`,
      open: () => blobs.store.open(`${run.jobUid}/out/${path}`),
    }));
    if (run.logPacked) files.push({ path: 'run.log', open: () => blobs.store.open(logObject(run.jobUid)) });
    for (const { path, blob } of manifest.files) files.push({ path: `code/${path}`, open: () => blobs.open(blob) });
    return writeZip(files, new Date(run.endedAt ?? run.createdAt));
  }

  /** Returns one of the files that were collected from `/out`. @throws NotFoundError */
  async output(id: string, path: string, as: As): Promise<Readable> {
    const run = await this.#allowed(id, as, 'read');
    const clean = filePath(path);
    if (!run.output?.files.some((file) => file.path === clean)) throw new NotFoundError(`The run ${id} left no file ${clean}.`);
    return this.#options.blobs.store.open(`${run.jobUid}/out/${clean}`);
  }

  /**
   * Stops a run. A queued run has ended when this returns. A running program is asked to end, and is killed after the worker's `grace`.
   * If the program ends by itself first, that end counts.
   * @throws NotFoundError, ForbiddenError, RunEndedError
   */
  async terminate(id: string, as: As): Promise<Run> {
    const before = await this.#allowed(id, as, 'stop');
    if (before.phase === 'draft') throw new InvalidArgumentError(`The run ${id} was never submitted; there is nothing to stop.`);
    const { run, hadEnded } = await stopRun(this.#options, id, actorOf(as));
    if (hadEnded) throw new RunEndedError(`The run ${id} has ended${run.message ? `: ${run.message}` : ''}. There is nothing to stop.`);
    return viewOf(run);
  }

  /** Stops every live run of a task and waits until they have ended. */
  async endOf(taskId: string, actor: string): Promise<void> {
    const { runs } = this.#options;
    const signal = AbortSignal.timeout(120_000);
    for (const run of await runs.where("task_id = ? AND phase NOT IN ('draft', 'terminal')", [taskId])) {
      await this.terminate(run.id, { actor }).catch((error) => {
        if (!RunEndedError.is(error, 'run-ended')) throw error;
      });
      for await (const _ of this.#options.log.follow(run.id, run.lastSeq, { signal, wait: true })) {
        // Reads until the run ends.
      }
    }
  }

  async #signal(run: RunRow): Promise<void> {
    const { queue, logger } = this.#options;
    const [result] = await queue.send([{ runId: run.id, pool: run.pool ?? '', priority: run.priority }]);
    if (result === 'unroutable') await this.#options.unroutable(run);
    else if (result === 'unsure')
      logger.warn({ runId: run.id }, 'it is unknown whether the message of a run arrived; the sweep sends it again');
  }

  #pool(name: string | undefined): Pool {
    const { pools } = this.#options;
    const pool = name === undefined ? pools.values().next().value : pools.get(name);
    if (pool) return pool;
    throw new InvalidArgumentError(`There is no pool ${shownValue(name)}; choose one of ${[...pools.keys()].join(', ')}.`);
  }

  /** A run may be read and stopped by its actor, and by everybody who may do so with its task. */
  async #allowed(id: string, as: As, action: 'read' | 'stop'): Promise<RunRow> {
    const actor = actorOf(as);
    const run = await this.#options.runs.get(id);
    if (run.actor === actor) return run;
    const resource = { taskId: run.taskId, owner: (await this.#ownerOf(run.taskId)) ?? run.actor };
    if (!(await this.#options.authorize(actor, 'read', resource))) throw new NotFoundError(`There is no run ${id}.`);
    if (action !== 'read') await allow(this.#options.authorize, actor, action, resource);
    return run;
  }

  async #ownerOf(taskId: string): Promise<string | undefined> {
    const [task] = await this.#options.database.rows<{ owner: string }>(
      `SELECT owner FROM ${this.#options.database.table('runner_task')} WHERE id = ?`,
      [taskId],
    );
    return task?.owner;
  }
}

function describeText(text: unknown): string {
  if (typeof text !== 'string') return typeof text;
  return text.length > 2_000 ? `${text.length} characters` : JSON.stringify(text.slice(0, 60));
}
