import { type Duration, durationMs, keyText, requireKnown, type SqlRunner } from '@holdfast/core';
import { JobNotFoundError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import { type JobOptions, jobDefinition, plain } from './definition.ts';
import { insertRun } from './insert-run.ts';
import { findJob, type JobRow } from './job-rows.ts';
import { saveJob } from './save-job.ts';

/** A job as operators save it. */
export interface SaveOptions extends JobOptions {
  /** Unique in the app, up to 191 characters. */
  readonly key: string;
  /** The name of the processor that its runs need. Default: the key. */
  readonly processor?: string;
  /** Whether the job fires. Default: as it is; a new job fires. */
  readonly enabled?: boolean;
}

/** How a run by hand is started. */
export interface TriggerRunOptions {
  /** Default: those of the job. */
  readonly params?: unknown;
  /** Default: at once. */
  readonly delay?: Duration;
  /** A second call with the same key, within 30 days, starts nothing and returns the first run. Up to 191 characters. */
  readonly runKey?: string;
}

const runKeyMs = 30 * 86_400_000;

/** The jobs of one app. */
export class Jobs {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /**
   * Creates a job, or changes it. Runs of its former definition that have not started are planned anew; those that run go on as they began.
   * @throws InvalidArgumentError with the option that is wrong
   */
  async save({ key, processor = key, enabled, ...options }: SaveOptions): Promise<JobRow> {
    const { app, database } = this.#registry;
    keyText('key', key);
    const definition = jobDefinition(processor, options);
    const job = await database.transaction((sql) =>
      saveJob(database, sql, { app, key, definition, ...(enabled === undefined ? {} : { enabled }) }),
    );
    this.#registry.wakers.wake();
    return job;
  }

  /** The job, or `undefined`. */
  async get(key: string): Promise<JobRow | undefined> {
    const { app, database } = this.#registry;
    return database.use((sql) => findJob(database, sql, app, keyText('key', key)));
  }

  /**
   * Starts a run by hand. Returns the run's id, and whether `runKey` had been used before.
   * @throws JobNotFoundError
   */
  async trigger(key: string, options: TriggerRunOptions = {}): Promise<{ readonly id: string; readonly duplicate: boolean }> {
    requireKnown('trigger', options, ['params', 'delay', 'runKey']);
    const { database, app } = this.#registry;
    keyText('key', key);
    const runKey = options.runKey === undefined ? undefined : keyText('runKey', options.runKey);
    const delayMs = options.delay === undefined ? 0 : durationMs(options.delay, 'delay');
    const params = options.params === undefined ? undefined : plain(options.params);
    const started = await database.transaction(async (sql) => {
      const job = await findJob(database, sql, app, key);
      if (!job) throw new JobNotFoundError(app, key);
      const insert = async (): Promise<string> => {
        const runAt = delayMs === 0 ? undefined : (await now(sql)) + delayMs;
        return insertRun(database, sql, job, { params: params ?? job.definition.params, ...(runAt === undefined ? {} : { runAt }) });
      };
      if (runKey === undefined) return { id: await insert(), duplicate: false };
      const scope = `scheduler:run:${job.id}`;
      const entry = await this.#registry.once.enter(sql, scope, runKey, runKeyMs);
      if (!entry.first) return { id: entry.ref ?? '', duplicate: true };
      const id = await insert();
      await this.#registry.once.setRef(sql, scope, runKey, id);
      return { id, duplicate: false };
    });
    if (!started.duplicate) this.#registry.wakers.wake();
    return started;
  }
}

async function now(sql: Pick<SqlRunner, 'rows'>): Promise<number> {
  const [row] = await sql.rows<{ now: string | number }>('SELECT {now} AS now');
  return Number(row?.now);
}
