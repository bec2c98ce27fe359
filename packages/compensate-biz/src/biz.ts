import {
  type Actor,
  checkMigrated,
  coreSchema,
  type Database,
  type DatabaseOptions,
  dataVersionWaker,
  defaultLogger,
  durationMs,
  type EventSource,
  Events,
  InvalidArgumentError,
  keyText,
  type ListQuery,
  type Logger,
  listenWaker,
  localWaker,
  Once,
  openDatabase,
  requireTransaction,
  type SqlRunner,
  transactionTrace,
  type Waker,
  type WorkTable,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizTypes, ContextInput, ContextOutput } from './biz-type.ts';
import type { BizEvents } from './events.ts';
import type { Batch, BatchItem, Run } from './handler.ts';
import { NewerRows } from './newer-rows.ts';
import { Inspection } from './operate/inspect.ts';
import { cancelRows, rescheduleRow } from './operate/steer.ts';
import { createFanOut, type FanOutOptions, type FanOutResult } from './submit/fan-out.ts';
import { GroupCommit } from './submit/group-commit.ts';
import { insertRows } from './submit/insert-rows.ts';
import { type NewRow, newRow, rowId, type SubmitOptions, typeOf } from './submit/new-row.ts';
import { bizTable } from './table/biz-table.ts';
import { compensateBizSchema } from './table/schema.ts';
import { type Hint, type Hints, hintNote } from './wake/hints.ts';
import { type SweepCounts, sweepOnce } from './worker/sweep.ts';
import { BizWorker, type WorkerOptions } from './worker/worker.ts';

/** Where the table is, and which types of rows there are. */
export interface CompensateBizOptions<Types extends BizTypes> extends DatabaseOptions {
  /** The types this service may submit; those with a handler are also run. */
  readonly types: Types;
  /** Largest context as JSON, in bytes. Default 262,144. */
  readonly maxContextBytes?: number;
  /** Wakes workers of other processes. Default: LISTEN on Postgres, `PRAGMA data_version` on SQLite, none elsewhere (they poll). */
  readonly waker?: Waker;
  /** Carries ids of new rows to workers elsewhere, on top of `waker`. Default none. */
  readonly hints?: Hints;
  /** Default: warnings and errors to standard error. */
  readonly logger?: Logger;
}

/** A submit that was accepted (and holds once its transaction commits). */
export interface Submitted {
  /** 64-bit, hence text. */
  readonly id: string;
  /** `true` when `once` found an earlier row; `id` is that row's. */
  readonly duplicate: boolean;
}

/** Options of many rows: the same for all, or made of each one's context. */
export type ManyOptions<Context> = Omit<SubmitOptions, 'once'> | ((context: Context) => Omit<SubmitOptions, 'once'>);

/** Submits and changes within one transaction. */
export interface Submitter<Types extends BizTypes> {
  /** Writes a row that is run as soon as a worker is free. */
  submit<Type extends keyof Types & string>(type: Type, context: ContextInput<Types[Type]>, options?: SubmitOptions): Promise<Submitted>;
  /**
   * Thousands of rows per statement. Returns their ids in order. `options` are those of all, or a function of each. `once` is not for
   * many rows: use `fanOut` or submit.
   */
  submitMany<Type extends keyof Types & string>(
    type: Type,
    contexts: readonly ContextInput<Types[Type]>[],
    options?: ManyOptions<ContextInput<Types[Type]>>,
  ): Promise<string[]>;
}

/** What `in(trx)` gives. */
export interface InTransaction<Types extends BizTypes> extends Submitter<Types> {
  /** Cancels a row that has not ended. A running one gets its signal, and nothing more of it is accepted. */
  cancel(target: RowTarget): Promise<boolean>;
  /** Changes when a waiting row runs. */
  reschedule(target: RowTarget, delay: NonNullable<SubmitOptions['delay']>): Promise<boolean>;
}

/** A row, by id or by its type and `once` key. */
export type RowTarget = { readonly id: string } | { readonly type: string; readonly once: string };

/** Handles one row of a type: what it returns is the verdict, what it throws is a failed run. */
export type Handler<Types extends BizTypes, Type extends keyof Types> = (context: ContextOutput<Types[Type]>, run: Run<Types>) => unknown;
/** Handles many rows of a type at once. */
export type BatchHandler<Types extends BizTypes, Type extends keyof Types> = (
  items: readonly BatchItem<ContextOutput<Types[Type]>>[],
  batch: Batch<ContextOutput<Types[Type]>>,
) => unknown;

/** A handler as registered. */
export interface Registered {
  readonly size: number;
  // biome-ignore lint/suspicious/noExplicitAny: contexts of all types meet here
  readonly one?: (context: any, run: Run<any>) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly many?: (items: readonly BatchItem<any>[], batch: Batch<any>) => unknown;
}

/** A registry of business handlers over one durable table. */
export class CompensateBiz<Types extends BizTypes> {
  readonly types: Types;
  readonly database: Database;
  readonly table: WorkTable;
  readonly logger: Logger;
  readonly handlers: Map<string, Registered> = new Map();
  /** Rows of a newer version than this process knows, as its workers meet them. */
  readonly newerRows: NewerRows = new NewerRows();
  readonly #events: Events<BizEvents>;
  readonly maxContextBytes: number;
  readonly #once: Once;
  readonly #groupCommit: GroupCommit;
  readonly #inspection: Inspection;
  /** As given. */
  readonly hints: Hints | undefined;
  readonly #givenWaker: Waker | undefined;
  #sharedWaker: Waker | undefined;
  readonly #workers = new Set<BizWorker>();

  constructor(options: CompensateBizOptions<Types>) {
    if (typeof options?.types !== 'object' || Object.keys(options.types).length === 0)
      throw new InvalidArgumentError('types is missing or empty; pass at least one, as in types: { "grant-coupon": bizType(schema) }.');
    for (const type of Object.keys(options.types)) keyText('the name of a type', type, 100);
    this.types = options.types;
    this.logger = options.logger ?? defaultLogger;
    this.database = openDatabase(options);
    this.table = bizTable(this.database);
    this.maxContextBytes = options.maxContextBytes ?? 262_144;
    this.#once = new Once(this.database);
    this.#events = new Events(this.logger);
    this.#givenWaker = options.waker;
    this.hints = options.hints;
    this.#groupCommit = new GroupCommit(this.database, (rows, ids) => this.wakeFor(rows, ids));
    this.#inspection = new Inspection(this.database, this.table);
  }

  /** See {@link BizEvents}. */
  get events(): EventSource<BizEvents> {
    return this.#events;
  }

  /** Whether anybody listens to an event. */
  has(name: keyof BizEvents): boolean {
    return this.#events.has(name);
  }

  /** Tells listeners of {@link CompensateBiz.events}. For the parts of this package. */
  emit<Name extends keyof BizEvents>(name: Name, payload: BizEvents[Name]): void {
    this.#events.emit(name, payload);
  }

  /** Registers the handler of a type: called once per row. */
  handle<Type extends keyof Types & string>(type: Type, handler: Handler<Types, Type>): void {
    this.#register(type, { size: 1, one: handler });
  }

  /** Registers a handler that takes up to `size` rows at once: for small steps that share one transaction. */
  handleBatch<Type extends keyof Types & string>(type: Type, options: { readonly size: number }, handler: BatchHandler<Types, Type>): void {
    if (!Number.isInteger(options.size) || options.size < 1 || options.size > 10_000)
      throw new InvalidArgumentError(`size is ${options.size}; give a whole number from 1 to 10,000.`);
    if (typeOf(this.types, type).serial)
      throw new InvalidArgumentError(`${type} is serial: its rows run one at a time per bizId, so it takes handle, not handleBatch.`);
    this.#register(type, { size: options.size, many: handler });
  }

  #register(type: string, handler: Registered): void {
    typeOf(this.types, type);
    if (this.handlers.has(type)) throw new InvalidArgumentError(`${type} has a handler already; one type has one handler.`);
    this.handlers.set(type, handler);
  }

  /** Submits and changes that commit with `trx`. @throws NotInTransactionError on use, unless `trx` is an open transaction. */
  in(trx: Knex.Transaction): InTransaction<Types> {
    requireTransaction(trx, 'in(trx)');
    const executor = (): Promise<SqlRunner> => this.database.within(trx, 'submit');
    return {
      submit: async (type, context, options = {}) => {
        const row = await newRow(this.types, this.maxContextBytes, type, context, options);
        const sql = await executor();
        const submitted = await this.submitRow(sql, row, options);
        await this.#wakeAfterCommit(trx, [row], [submitted.id]);
        return submitted;
      },
      submitMany: async (type, contexts, options = {}) => {
        const rows = await this.#rows(type, contexts, options);
        const ids = await this.#insertChunks(await executor(), rows);
        await this.#wakeAfterCommit(trx, rows, ids);
        return ids;
      },
      cancel: async (target) => {
        const sql = await executor();
        const id = await this.#resolve(sql, target);
        const cancelled = id !== undefined && (await cancelRows(this.database, this.table, sql, [id])) === 1;
        if (cancelled) {
          (await transactionTrace(trx)).add(() => {
            for (const worker of this.#workers) worker.cancelled(id);
          });
        }
        return cancelled;
      },
      reschedule: async (target, delay) => {
        const sql = await executor();
        const id = await this.#resolve(sql, target);
        return id !== undefined && (await rescheduleRow(this.database, this.table, sql, id, delay));
      },
    };
  }

  /** Submits in transactions of their own; those under way at the same time share one. */
  now(): Submitter<Types> & { fanOut: CompensateBiz<Types>['fanOut'] } {
    return {
      submit: async (type, context, options = {}) => {
        const row = await newRow(this.types, this.maxContextBytes, type, context, options);
        if (options.once === undefined && row.gate === null) return { id: await this.#groupCommit.insert(row), duplicate: false };
        const submitted = await this.database.transaction((sql) => this.submitRow(sql, row, options));
        this.wakeFor([row], [submitted.id]);
        return submitted;
      },
      submitMany: async (type, contexts, options = {}) => {
        const rows = await this.#rows(type, contexts, options);
        const plain = rows.length <= 1000 && rows.every((row) => row.gate === null);
        const ids = plain
          ? ((await this.database.use((sql) => insertRows(this.database, sql, rows))) as string[])
          : await this.database.transaction((sql) => this.#insertChunks(sql, rows));
        this.wakeFor(rows, ids);
        return ids;
      },
      fanOut: (type, source, options) => this.fanOut(type, source, options),
    };
  }

  /**
   * Cuts a large source into rows of `type` in bounded memory, under one parent row that completes when all of them
   * have ended. Called again with the same `key` after a crash, it goes on where it stopped.
   */
  fanOut<Type extends keyof Types & string>(
    type: Type,
    source: AsyncIterable<ContextInput<Types[Type]>> | Iterable<ContextInput<Types[Type]>>,
    options: FanOutOptions<Types>,
  ): Promise<FanOutResult> {
    return createFanOut(
      {
        database: this.database,
        types: this.types,
        maxContextBytes: this.maxContextBytes,
        once: this.#once,
        wake: (rows) => this.wakeFor(rows),
      },
      type,
      source,
      options as unknown as FanOutOptions<BizTypes>,
    );
  }

  /** A worker for the types that have handlers by now. Start it with `await worker.start()` or `await using`. */
  worker(options: WorkerOptions = {}): BizWorker {
    if (this.handlers.size === 0)
      throw new InvalidArgumentError('No type has a handler; call biz.handle(type, handler) before biz.worker().');
    const worker = new BizWorker(this as unknown as CompensateBiz<BizTypes>, options);
    this.#workers.add(worker);
    return worker;
  }

  /** Finds what was lost: see {@link SweepCounts}. Workers call it every 3 minutes; here it is by hand. */
  sweep(): Promise<SweepCounts> {
    return sweepOnce(this as unknown as CompensateBiz<BizTypes>);
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    const { warnings } = await this.database.describe();
    for (const warning of warnings) this.logger.warn({}, warning);
    const newer = await checkMigrated(this.database, [coreSchema, compensateBizSchema]);
    if (newer.length > 0)
      this.logger.warn({ newer }, 'the tables were migrated by a newer version; this one goes on, since migrations only add');
  }

  /** For operators' tools. */
  inspect(): Inspection {
    return this.#inspection;
  }

  /** Rows of one type by status. */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#inspection.list(query);
  }

  /** Makes a FAILED or CANCELLED row run again; its history stays. */
  async redrive(id: string, by: Actor): Promise<boolean> {
    const changed = (await this.#inspection.actions.redrive(id, by)) === 1;
    if (changed) this.wake();
    return changed;
  }

  /** Ends the loops' connections. The service's knex stays open. Stop workers first. */
  async close(): Promise<void> {
    for (const worker of this.#workers) await worker.stop();
    await this.#sharedWaker?.close();
    await this.database.close();
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Tells the workers, here and elsewhere, that rows may be ready. `note` names one. */
  wake(note?: string): void {
    localWaker(this.database.knex.client as object).wake(channel, note);
    this.crossProcessWaker?.wake(channel, note);
  }

  /** As {@link wake}; a few rows that may run at once are named. */
  wakeFor(rows: readonly NewRow[], ids: readonly (string | undefined)[] = []): void {
    if (rows.length === 0) return;
    const hints: Hint[] = [];
    for (const [i, id] of ids.entries()) {
      const row = rows[i];
      if (row && id && row.delayMs === 0 && row.gate === null) hints.push({ type: row.biz_type, id });
    }
    if (hints.length < rows.length || hints.length > maxNamed) this.wake();
    else for (const hint of hints) this.wake(hintNote(hint));
    if (hints.length > 0) this.hints?.send(hints);
  }

  /** The waker that reaches other processes, made when first needed. */
  get crossProcessWaker(): Waker | undefined {
    if (this.#givenWaker) return this.#givenWaker;
    if (this.database.family === 'postgres') this.#sharedWaker ??= listenWaker(this.database, { logger: this.logger });
    else if (this.database.family === 'sqlite' && this.#workers.size > 0) this.#sharedWaker ??= dataVersionWaker(this.database);
    return this.#sharedWaker;
  }

  /** Writes one row, under its `once` key if it has one. */
  async submitRow(sql: SqlRunner, row: NewRow, options: SubmitOptions): Promise<Submitted> {
    const { once } = options;
    if (once === undefined) return { id: (await insertRows(this.database, sql, [row]))[0] ?? '', duplicate: false };
    const key = keyText('once', typeof once === 'string' ? once : once.key);
    const scope = onceScope(row.biz_type);
    const pending = typeof once === 'object' && 'while' in once;
    const windowMs = pending
      ? foreverMs
      : typeof once === 'object' && 'window' in once && once.window !== undefined
        ? durationMs(once.window, 'once.window')
        : weekMs;
    const entry = await this.#once.enter(sql, scope, key, windowMs, pending ? (ref) => this.#pending(sql, ref) : undefined);
    if (!entry.first) return { id: entry.ref ?? '', duplicate: true };
    const id = (await insertRows(this.database, sql, [row]))[0] ?? '';
    await this.#once.setRef(sql, scope, key, id);
    return { id, duplicate: false };
  }

  async #pending(sql: SqlRunner, id: string): Promise<boolean> {
    const rows = await sql.rows(
      `SELECT 1 AS one FROM ${this.database.table('compensate_biz')} WHERE id = ${BigInt(id)} AND status NOT IN ('SUCCESS', 'FAILED', 'CANCELLED')`,
    );
    return rows.length > 0;
  }

  async #resolve(sql: SqlRunner, target: RowTarget): Promise<string | undefined> {
    if ('id' in target) return rowId('id', target.id);
    return this.#once.find(sql, onceScope(target.type), keyText('once', target.once));
  }

  async #rows<Context>(type: string, contexts: readonly Context[], options: ManyOptions<Context>): Promise<NewRow[]> {
    if (!Array.isArray(contexts))
      throw new InvalidArgumentError('submitMany takes an array of contexts; for a source too large for memory use fanOut.');
    const rows: NewRow[] = [];
    for (const context of contexts) {
      const own: SubmitOptions = typeof options === 'function' ? options(context) : options;
      if (own.once !== undefined)
        throw new InvalidArgumentError('once is a key of one row; submitMany takes none. Use submit, or fanOut with childKey.');
      rows.push(await newRow(this.types, this.maxContextBytes, type, context, own));
    }
    return rows;
  }

  async #insertChunks(sql: SqlRunner, rows: readonly NewRow[]): Promise<string[]> {
    const ids: string[] = [];
    for (let from = 0; from < rows.length; from += 1000)
      ids.push(...((await insertRows(this.database, sql, rows.slice(from, from + 1000))) as string[]));
    return ids;
  }

  async #wakeAfterCommit(trx: Knex.Transaction, rows: readonly NewRow[], ids: readonly (string | undefined)[]): Promise<void> {
    (await transactionTrace(trx)).add(() => this.wakeFor(rows, ids));
  }
}

/** Creates the registry. @throws InvalidArgumentError */
export function createCompensateBiz<Types extends BizTypes>(options: CompensateBizOptions<Types>): CompensateBiz<Types> {
  return new CompensateBiz(options);
}

export const channel = 'compensate-biz';
/** More rows than this are found by a look as well. */
const maxNamed = 16;
const weekMs = 7 * 86_400_000;
const foreverMs = 3650 * 86_400_000;

function onceScope(type: string): string {
  return `compensate-biz:${type}`;
}
