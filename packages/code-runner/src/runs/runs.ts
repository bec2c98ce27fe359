import type { Readable } from 'node:stream';
import { type Database, type Duration, InvalidArgumentError, keyText, type Logger, Once, unfitText } from '@holdfast/core';
import { type As, type Authorize, actorOf, allow } from '../access.ts';
import { LiveRunError, NoMainFileError, NotFoundError, RunEndedError } from '../errors.ts';
import { filePath } from '../files/path.ts';
import type { RunQueue } from '../queue/run-queue.ts';
import type { Blobs } from '../store/blobs.ts';
import type { TaskTable } from '../tasks/task-table.ts';
import type { Tasks } from '../tasks/tasks.ts';
import { writeZip } from '../zip/write-zip.ts';
import { checkArgv, splitCommand } from './argv.ts';
import { type EventLog, logObject } from './event-log.ts';
import { limitsWithin, type Pool, type RunLimits } from './limits.ts';
import { freeze, thaw } from './manifest.ts';
import type { RunRow } from './run.ts';
import type { RunEvent } from './run-event.ts';
import { type Run, viewOf } from './run-view.ts';
import { type StopHost, stopRun } from './stop-run.ts';

export interface Submit extends As {
  /** What is run in `/code` instead of the main file: program and arguments. */
  readonly argv?: readonly string[];
  /** The same as one line, for older clients: split at blanks, quotes kept together, never given to a shell. */
  readonly execCommand?: string;
  /** Kept with the run. At most 2,000 characters. */
  readonly remarks?: string;
  /** Higher is more urgent: -9 to 9. Default 0. */
  readonly priority?: number;
  /** Default: the first pool. */
  readonly pool?: string;
  readonly limits?: Partial<RunLimits> & { readonly timeout?: Duration };
  /** The same key again, within a day, returns the run of the first time. */
  readonly idempotencyKey?: string;
}

export interface RunsOptions extends StopHost {
  readonly database: Database;
  readonly table: TaskTable;
  readonly tasks: Tasks;
  readonly blobs: Blobs;
  readonly log: EventLog;
  readonly queue: RunQueue;
  readonly pools: ReadonlyMap<string, Pool>;
  readonly authorize: Authorize;
  readonly queueMs: number;
  readonly unroutable: (run: RunRow) => Promise<void>;
  readonly logger: Logger;
}

const onceScope = 'code-runner/submit';

/** Runs: submitted, watched, stopped. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #once: Once;

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#once = new Once(options.database);
  }

  /**
   * Freezes the task as it is and queues it.
   * @throws NotFoundError, ForbiddenError, NoMainFileError, LiveRunError, InvalidArgumentError
   */
  async submit(taskId: string, submit: Submit): Promise<Run> {
    const { database, runs, table, tasks, blobs, queueMs } = this.#options;
    let task = await tasks.allowed(taskId, submit, 'run');
    const actor = actorOf(submit);
    const pool = this.#pool(submit.pool);
    const limits = limitsWithin(pool, submit.limits);
    const { priority = 0, remarks = null } = submit;
    if (!Number.isInteger(priority) || priority < -9 || priority > 9)
      throw new InvalidArgumentError(`priority is ${JSON.stringify(priority)}; give a whole number from -9 to 9.`);
    if (remarks !== null && (typeof remarks !== 'string' || remarks.length > 2_000 || unfitText(remarks)))
      throw new InvalidArgumentError('remarks is no text of at most 2,000 characters without NUL.');
    if (submit.argv !== undefined && submit.execCommand !== undefined)
      throw new InvalidArgumentError('Give argv or execCommand, not both.');
    const argv = submit.argv !== undefined ? checkArgv(submit.argv) : submit.execCommand ? splitCommand(submit.execCommand) : null;
    const key =
      submit.idempotencyKey === undefined
        ? undefined
        : `${taskId}/${actor}/${keyText('idempotencyKey', submit.idempotencyKey, 100)}`.slice(0, 191);
    // Before the transaction: contents are kept where nothing waits for them.
    for (;;) {
      const files = await table.files.all(taskId);
      const known = files.some(({ path }) => path === task.main);
      if (argv === null && !known)
        throw new NoMainFileError(
          task.main === null
            ? 'The task has no main file. Say which file is run (setMain), or give argv.'
            : `The main file ${task.main} is not there. Write it, choose another (setMain), or give argv.`,
        );
      const manifestHash = await freeze(blobs, files, task.dataSets);
      const run = await database
        .transaction(async (sql) => {
          const now = await table.lock(sql, taskId);
          if (now.version !== task.version) return undefined;
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
            argv,
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
          // Two at the same moment: the index let one in.
          if (!LiveRunError.is(error, 'live-run') || (error as LiveRunError).runId !== undefined) throw error;
          const [live] = await runs.where("task_id = ? AND actor = ? AND phase NOT IN ('draft', 'terminal')", [taskId, actor]);
          throw new LiveRunError(error.message, live?.id);
        });
      // Edited in between: freeze what it is now.
      if (!run) {
        task = await table.get(taskId);
        continue;
      }
      if (run.fresh) {
        this.#options.changed(run.run.id);
        await this.#ring(run.run);
      }
      return viewOf(run.run);
    }
  }

  /** @throws NotFoundError */
  async get(id: string, as: As): Promise<Run> {
    return viewOf(await this.#allowed(id, as, 'read'));
  }

  /** Runs of a task, or the actor's own of all tasks; newest first. `before` is the last id of the page before. */
  async list(
    as: As,
    query: { readonly taskId?: string; readonly before?: string; readonly limit?: number; readonly drafts?: boolean } = {},
  ): Promise<readonly Run[]> {
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
      params.push(/^\d{1,18}$/.test(query.before) ? query.before : '0');
    }
    const limit = Math.min(Math.max(1, query.limit ?? 50), 200);
    return (await this.#options.runs.where(`${where.join(' AND ')} ORDER BY id DESC LIMIT ${Math.trunc(limit)}`, params)).map(viewOf);
  }

  /**
   * Everything that happened in a run behind event `after`, and what happens, up to its end: changes of state, and what the program
   * prints. Going on with the number of the last event that was seen gives each event once.
   * @throws NotFoundError
   */
  async *events(
    id: string,
    options: As & { readonly after?: number; readonly signal?: AbortSignal; readonly follow?: boolean },
  ): AsyncGenerator<RunEvent> {
    const after = options.after ?? 0;
    if (!Number.isInteger(after) || after < 0)
      throw new InvalidArgumentError(`after is ${JSON.stringify(options.after)}; give the number of an event, or 0.`);
    await this.#allowed(id, options, 'read');
    yield* this.#options.log.follow(id, after, { signal: options.signal, wait: options.follow ?? true });
  }

  /**
   * The run's files as an archive, packed while it is read: what it left in `/out`, its log, and the code that was run.
   * @throws NotFoundError
   */
  async download(id: string, as: As): Promise<Readable> {
    const run = await this.#allowed(id, as, 'read');
    const { blobs } = this.#options;
    if (run.manifestHash === null) throw new NotFoundError(`The run ${id} was never submitted; there is nothing to download.`);
    const manifest = await thaw(blobs, run.manifestHash);
    const files = (run.output?.files ?? []).map(({ path }) => ({
      path: `out/${path}`,
      open: () => blobs.store.open(`${run.jobUid}/out/${path}`),
    }));
    if (run.logPacked) files.push({ path: 'run.log', open: () => blobs.store.open(logObject(run.jobUid)) });
    for (const { path, blob } of manifest.files) files.push({ path: `code/${path}`, open: () => blobs.open(blob) });
    return writeZip(files, new Date(run.endedAt ?? run.createdAt));
  }

  /** One file of what a run left in `/out`. @throws NotFoundError */
  async output(id: string, path: string, as: As): Promise<Readable> {
    const run = await this.#allowed(id, as, 'read');
    const clean = filePath(path);
    if (!run.output?.files.some((file) => file.path === clean)) throw new NotFoundError(`The run ${id} left no file ${clean}.`);
    return this.#options.blobs.store.open(`${run.jobUid}/out/${clean}`);
  }

  /**
   * Stops a run. One that waits has ended when this returns; one that runs is asked to end, and ended after a while.
   * Whoever is first wins: a run that ended by itself keeps how it ended.
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
        // Up to its end.
      }
    }
  }

  async #ring(run: RunRow): Promise<void> {
    const { queue, logger } = this.#options;
    const [rung] = await queue.ring([{ runId: run.id, pool: run.pool ?? '', priority: run.priority }]);
    if (rung === 'unroutable') await this.#options.unroutable(run);
    else if (rung === 'unsure') logger.warn({ runId: run.id }, 'whether the message of a run arrived is unknown; the sweep sends it again');
  }

  #pool(name: string | undefined): Pool {
    const { pools } = this.#options;
    const pool = name === undefined ? pools.values().next().value : pools.get(name);
    if (pool) return pool;
    throw new InvalidArgumentError(
      `There is no pool ${JSON.stringify(name)?.slice(0, 60)}; choose one of ${[...pools.keys()].join(', ')}.`,
    );
  }

  /** Whose run it is may read and stop it, and whoever may do so with the task. */
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
