import type { JobOptions } from './job/definition.ts';
import { Jobs } from './job/jobs.ts';
import { Registry, type SchedulerOptions } from './registry.ts';
import type { JobRun, Processor } from './run/job-run.ts';
import { SchedulerWorker, type WorkerOptions } from './worker/worker.ts';

/** Jobs that fire on time, once, and are seen to end; kept in the service's own database. Make it with `createScheduler`. */
export class Scheduler {
  /** Jobs by their keys: save, read, start by hand. */
  readonly jobs: Jobs;
  readonly #registry: Registry;
  readonly #workers: SchedulerWorker[] = [];

  constructor(registry: Registry) {
    this.#registry = registry;
    this.jobs = new Jobs(registry);
  }

  /**
   * Declares a job in code. A worker writes its row when it starts; a change of the code changes the row.
   * @throws InvalidArgumentError with the option that is wrong
   */
  job<Params = Record<string, never>>(key: string, options: JobOptions, handler: (params: Params, run: JobRun) => unknown): void {
    this.#registry.declare(key, options, handler as Processor);
  }

  /** Registers what runs of jobs do that operators save with this processor's name. */
  processor<Params>(name: string, handler: (params: Params, run: JobRun) => unknown): void {
    this.#registry.register(name, handler as Processor);
  }

  /** Makes a worker, which plans and runs once it is started. Register all processors before. */
  worker(options?: WorkerOptions): SchedulerWorker {
    const worker = new SchedulerWorker(this.#registry, options);
    this.#workers.push(worker);
    return worker;
  }

  /** Stops the workers and closes the connections of this scheduler. The service's knex stays open. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    await this.#registry.close();
  }

  /** Calls `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Makes a scheduler on the service's own database. Its tables are those of `schedulerSchema`. @throws InvalidArgumentError */
export function createScheduler(options: SchedulerOptions): Scheduler {
  return new Scheduler(new Registry(options));
}
