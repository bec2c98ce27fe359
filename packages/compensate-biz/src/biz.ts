import {
  type Actor,
  type BulkCounts,
  type BulkOptions,
  type Database,
  type EventSource,
  InvalidArgumentError,
  type ListQuery,
  type Logger,
  type WorkTable,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { CompensateBizOptions } from './biz-options.ts';
import type { BizTypes, ContextInput } from './biz-type.ts';
import type { BizEvents } from './events.ts';
import type { BatchHandler, Handler, Registered } from './handler.ts';
import { findTasks, getTask } from './operate/find-tasks.ts';
import { Inspection } from './operate/inspect.ts';
import type { Task, TaskDetails } from './operate/task.ts';
import { bulkFilter, type RedriveFilter, type TaskQuery } from './operate/task-query.ts';
import { type WaitOptions, waitForEnd } from './operate/wait-for-end.ts';
import { Registry } from './registry.ts';
import { createFanOut, type FanOutOptions, type FanOutResult } from './submit/fan-out.ts';
import { type InTransaction, RowSubmitter, type RowTarget, type Submitter } from './submit/submitter.ts';
import { type SweepCounts, sweepOnce } from './worker/sweep.ts';
import { BizWorker, type WorkerOptions } from './worker/worker.ts';

/** The registry behind a {@link CompensateBiz}, for the other entry points of this package. */
export let registryOf: (biz: CompensateBiz<BizTypes>) => Registry;

/** A registry of business handlers over one durable table. */
export class CompensateBiz<Types extends BizTypes> {
  static {
    registryOf = (biz) => biz.#registry;
  }

  /** The types that were given, by name. */
  readonly types: Types;
  readonly #registry: Registry;
  readonly #submitter: RowSubmitter;
  readonly #inspection: Inspection;
  readonly #workers = new Set<BizWorker>();

  constructor(options: CompensateBizOptions<Types>) {
    this.#registry = new Registry(options);
    this.types = options.types;
    this.#inspection = new Inspection(this.#registry);
    this.#submitter = new RowSubmitter(this.#registry);
    this.#registry.onCancelled((ids) => {
      for (const worker of this.#workers) worker.cancelled(ids);
    });
  }

  /** The database, with the clock that tests move. */
  get database(): Database {
    return this.#registry.database;
  }

  /** The table `compensate_biz`. */
  get table(): WorkTable {
    return this.#registry.table;
  }

  /** The logger that was given, or the default. */
  get logger(): Logger {
    return this.#registry.logger;
  }

  /** The handlers by type. */
  get handlers(): ReadonlyMap<string, Registered> {
    return this.#registry.handlers;
  }

  /** See {@link BizEvents}. */
  get events(): EventSource<BizEvents> {
    return this.#registry.events;
  }

  /** Registers the handler of a type, which is called once per row. A type has one handler. @throws UnknownTypeError, InvalidArgumentError */
  handle<Type extends keyof Types & string>(type: Type, handler: Handler<Types, Type>): void {
    this.#registry.register(type, { size: 1, one: handler });
  }

  /**
   * Registers a handler that takes up to `size` rows at once (1 to 10,000), for small steps that share one transaction. Not for `serial` types.
   * @throws UnknownTypeError, InvalidArgumentError
   */
  handleBatch<Type extends keyof Types & string>(type: Type, options: { readonly size: number }, handler: BatchHandler<Types, Type>): void {
    this.#registry.register(type, { size: options.size, many: handler });
  }

  /** Submits and changes that commit with `trx`. @throws NotInTransactionError on use, unless `trx` is an open transaction. */
  in(trx: Knex.Transaction): InTransaction<Types> {
    return this.#submitter.in(trx);
  }

  /** Submits in transactions of its own; single submits that are under way at the same time share one. */
  now(): Submitter<Types> & { fanOut: CompensateBiz<Types>['fanOut'] } {
    return { ...this.#submitter.now(), fanOut: (type, source, options) => this.fanOut(type, source, options) };
  }

  /**
   * Cuts a large source into rows of `type` in bounded memory, under one parent row that completes when all of them
   * have ended. Called again with the same `key` after a crash, it continues where it stopped. To cancel it with its children, cancel the parent
   * row: see `cancel` of {@link in}.
   * @throws FanOutCancelledError if the fan-out of this `key` was cancelled, at once or as soon as the chunk in hand would be written
   */
  fanOut<Type extends keyof Types & string>(
    type: Type,
    source: AsyncIterable<ContextInput<Types[Type]>> | Iterable<ContextInput<Types[Type]>>,
    options: FanOutOptions<Types>,
  ): Promise<FanOutResult> {
    return createFanOut(this.#registry, type, source, options);
  }

  /** A worker for the types that have handlers by now; `await worker.start()` starts it, and the end of `await using` stops it. */
  worker(options: WorkerOptions = {}): BizWorker {
    if (this.#registry.handlers.size === 0)
      throw new InvalidArgumentError('No type has a handler; call biz.handle(type, handler) before biz.worker().');
    const worker = new BizWorker(this.#registry, options);
    this.#workers.add(worker);
    return worker;
  }

  /** Finds and repairs lost rows, turns and fan-outs: see {@link SweepCounts}. Workers sweep every 3 minutes; this call sweeps at once. */
  sweep(): Promise<SweepCounts> {
    return sweepOnce(this.#registry);
  }

  /** Checks the server's version and the tables. @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  check(): Promise<void> {
    return this.#registry.check();
  }

  /** Reads and steers rows, for operators' tools. */
  inspect(): Inspection {
    return this.#inspection;
  }

  /**
   * Finds rows by `bizId`, `subject` or `tenant`, which have an index each; `type` and `status` narrow the search. Returns rows in the order of
   * their ids, 50 by default: pass the last id as `after` for the next page. Without any of the three keys it walks the table from `after` on.
   * @throws InvalidArgumentError
   */
  async find(query: TaskQuery<keyof Types & string> = {}): Promise<readonly Task<Types>[]> {
    return (await findTasks(this.#inspection, query)) as readonly Task<Types>[];
  }

  /** Reads one row with its context and its failed attempts; `undefined` if there is none, or it was deleted. */
  async get(id: string): Promise<(Task<Types> & TaskDetails) | undefined> {
    return (await getTask(this.#inspection, id)) as (Task<Types> & TaskDetails) | undefined;
  }

  /**
   * Waits until a row has ended, and returns it: SUCCESS with its `result`, FAILED or CANCELLED. Call it after the commit of the submit. Returns
   * `undefined` if the row is not there: it was never submitted, or it succeeded and its type keeps no rows (`keep: 'none'`).
   * @throws WaitTimeoutError after `timeout`; the reason of the signal
   */
  async waitFor(target: string | RowTarget, options: WaitOptions = {}): Promise<(Task<Types> & TaskDetails) | undefined> {
    const id = await this.#submitter.idOf(typeof target === 'string' ? { id: target } : target);
    return id === undefined ? undefined : waitForEnd(id, () => this.get(id), this.#registry.events, options);
  }

  /** Lists rows as operators' tools show them, by the names of the columns. In code use {@link find}. */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#inspection.list(query);
  }

  /**
   * Makes a FAILED or CANCELLED row run again; its history stays. Returns false if the row is in another status, or is gone.
   * @throws FanOutCancelledError for a fan-out that was cancelled
   */
  redrive(id: string, by: Actor): Promise<boolean>;
  /**
   * Makes all rows that match run again, in pages of up to 200 rows, each in a transaction of its own with its record in the audit table. Set
   * `rate` to what the systems behind the handlers can take, and look with `dryRun` first. A call that was stopped is called again. Fan-outs that
   * were cancelled do not match; their children do.
   * @throws InvalidArgumentError
   */
  redrive(filter: RedriveFilter<keyof Types & string>, options: BulkOptions): Promise<BulkCounts>;
  async redrive(target: string | RedriveFilter, options: Actor | BulkOptions): Promise<boolean | BulkCounts> {
    if (typeof target === 'object' && target !== null)
      return this.#inspection.bulk.redrive(bulkFilter(target), (options ?? {}) as BulkOptions);
    const changed = (await this.#inspection.actions.redrive(target, options as Actor)) === 1;
    if (changed) this.wake();
    return changed;
  }

  /** Tells the workers, in this process and in others, that rows may be ready: after a change of the table that did not go through this package. */
  wake(): void {
    this.#registry.wake();
  }

  /** Stops the workers and closes the loops' connections. The service's knex stays open. */
  async close(): Promise<void> {
    // Together: a worker whose handlers hang must not hold up the stop of the next.
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    await this.#registry.close();
  }

  /** Calls `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Creates the registry. It opens no connection before it is used. @throws InvalidArgumentError */
export function createCompensateBiz<Types extends BizTypes>(options: CompensateBizOptions<Types>): CompensateBiz<Types> {
  return new CompensateBiz(options);
}
