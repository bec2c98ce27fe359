import { type Database, type Duration, durationMs, TransactionDatabase, wholeNumber } from '@holdfast/core';
import type { Knex } from 'knex';
import { type CompensateBiz, registryOf } from '../biz.ts';
import type { BizTypes } from '../biz-type.ts';
import { findTasks, getTask } from '../operate/find-tasks.ts';
import { Inspection } from '../operate/inspect.ts';
import type { Task, TaskDetails } from '../operate/task.ts';
import type { TaskQuery } from '../operate/task-query.ts';
import type { WaitOptions } from '../operate/wait-for-end.ts';
import type { Registry } from '../registry.ts';
import type { RowTarget } from '../submit/submitter.ts';
import { DueRunner, type TaskRun } from './run-due.ts';

/** Options of {@link BizTestingIn.runDue}. */
export interface RunDueOptions<Type extends string = string> {
  /** Only rows of these types. Default: all types with a handler. */
  readonly types?: readonly Type[];
  /** The call rejects with TestRunLimitError at more runs than this: rows that submit each other would run for ever. Default 1,000. */
  readonly maxRuns?: number;
}

/** Helpers that look at rows and run them, in one transaction of a test or outside of any. */
export interface BizTestingIn<Types extends BizTypes> {
  /**
   * Runs every row that is due, and those that they submit, one after the other in this process, until none is due. Needs no worker, and waits
   * for no time: a row that fails runs again only once its delay has passed, by {@link BizTesting.advance} or `runAll`. Rates, breakers and
   * concurrency do not apply; a paused type does not run.
   * @returns each run in order, and how it ended
   * @throws TestRunLimitError
   */
  runDue(options?: RunDueOptions<keyof Types & string>): Promise<readonly TaskRun[]>;
  /**
   * As `runDue`, but moves the clock to the next due time whenever none is due, until no row waits: retries and delays happen at once.
   * @throws TestRunLimitError
   */
  runAll(options?: RunDueOptions<keyof Types & string>): Promise<readonly TaskRun[]>;
  /** Finds rows: see {@link CompensateBiz.find}. For what a test expects to be submitted. */
  find(query?: TaskQuery<keyof Types & string>): Promise<readonly Task<Types>[]>;
  /** Reads one row: see {@link CompensateBiz.get}. */
  get(id: string): Promise<(Task<Types> & TaskDetails) | undefined>;
}

/** Helpers for tests of a service that submits and handles rows. Made by {@link bizTesting}. */
export interface BizTesting<Types extends BizTypes> extends BizTestingIn<Types> {
  /**
   * The same inside a transaction of the test: rows that `biz.in(trx)` submitted are run, their `run.commit` is a savepoint, and nothing is left
   * once the test rolls back. Handlers must write through the `trx` that `run.commit` gives them.
   * @throws NotInTransactionError unless `trx` is an open transaction
   */
  in(trx: Knex.Transaction): BizTestingIn<Types>;
  /** Moves this instance's clock: what is due within that time is due now. */
  advance(by: Duration): void;
  /** Waits until a worker has ended a row: see {@link CompensateBiz.waitFor}. Times out after 5 s. */
  waitFor(target: string | RowTarget, options?: WaitOptions): Promise<(Task<Types> & TaskDetails) | undefined>;
}

/** Makes the helpers for tests of a {@link CompensateBiz} with its handlers. */
export function bizTesting<Types extends BizTypes>(biz: CompensateBiz<Types>): BizTesting<Types> {
  const registry = registryOf(biz as unknown as CompensateBiz<BizTypes>);
  const advance = (by: Duration): void => {
    biz.database.clockOffsetMs += durationMs(by, 'by');
  };
  return {
    ...helpers<Types>(registry, biz.database),
    in: (trx) => helpers<Types>(registry.on(new TransactionDatabase(biz.database, trx)), biz.database),
    advance,
    waitFor: (target, options = {}) => biz.waitFor(target, { timeout: '5s', ...options }),
  };
}

/** @param clock the database whose clock the test moves */
function helpers<Types extends BizTypes>(registry: Registry, clock: Database): BizTestingIn<Types> {
  const { database, table } = registry;
  const inspection = new Inspection(registry);
  const runMore = async ({ types, maxRuns = 1_000 }: RunDueOptions, before: number): Promise<readonly TaskRun[]> => {
    database.clockOffsetMs = clock.clockOffsetMs;
    return new DueRunner(registry).run(types, wholeNumber('maxRuns', maxRuns, { least: 0 }), before);
  };
  return {
    runDue: (options = {}) => runMore(options, 0),
    runAll: async (options = {}) => {
      const runs: TaskRun[] = [];
      for (;;) {
        runs.push(...(await runMore(options, runs.length)));
        const dueMs = await table.nextDueMs();
        if (dueMs === undefined) return runs;
        clock.clockOffsetMs += Math.max(1, Math.ceil(dueMs));
      }
    },
    find: async (query = {}) => (await findTasks(inspection, query)) as readonly Task<Types>[],
    get: async (id) => (await getTask(inspection, id)) as (Task<Types> & TaskDetails) | undefined,
  };
}
