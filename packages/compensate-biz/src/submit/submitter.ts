import {
  Batcher,
  type Duration,
  InvalidArgumentError,
  idText,
  isConnectionError,
  keyText,
  notAPromise,
  requireTransaction,
  type SqlRunner,
  shownValue,
  transactionTrace,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizTypes, ContextInput } from '../biz-type.ts';
import { cancelRow } from '../operate/cancel.ts';
import { rescheduleRow } from '../operate/steer.ts';
import type { Registry } from '../registry.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { fitsOneStatement } from './insert-rows.ts';
import { type NewRow, newRow } from './new-row.ts';
import { onceScope } from './once-key.ts';
import { type Submitted, writeRows } from './write-rows.ts';

/** Options of many rows: the same for all, or a function that makes them from the context of each. `once` names one row, so it needs the function. */
export type ManyOptions<Context> = Omit<SubmitOptions, 'once'> | ((context: Context) => SubmitOptions);

/** Submits rows. */
export interface Submitter<Types extends BizTypes> {
  /** Writes a row. It runs as soon as a worker is free, or after `delay`. */
  submit<Type extends keyof Types & string>(type: Type, context: ContextInput<Types[Type]>, options?: SubmitOptions): Promise<Submitted>;
  /**
   * Writes thousands of rows per statement. Returns their ids in order; where `once` found an earlier row, the id of that row. `options`
   * are those of all rows, or a function of each context.
   */
  submitMany<Type extends keyof Types & string>(
    type: Type,
    contexts: readonly ContextInput<Types[Type]>[],
    options?: ManyOptions<ContextInput<Types[Type]>>,
  ): Promise<string[]>;
}

/** Submits and changes rows within one transaction. `in(trx)` returns it. */
export interface InTransaction<Types extends BizTypes> extends Submitter<Types> {
  /**
   * Cancels a row that has not ended. The signal of a running row aborts, and nothing more of its run is accepted. Returns whether the row was
   * cancelled: false if it has ended, or is not there.
   *
   * A fan-out is cancelled with its children: by the `parentId` of its result, or as `{ type: 'fan-out', once: key }`. It is CANCELLED, and
   * does not complete, when `trx` commits; `fanOut` writes no further child, and throws FanOutCancelledError. Up to 1,000 of its children are
   * cancelled in `trx`, unless its isolation is such that it would conflict with their runs. Workers cancel all others after the commit, 1,000
   * in a transaction; without a worker, `sweep()` does. Children that have ended stay as they are.
   */
  cancel(target: RowTarget): Promise<boolean>;
  /** Makes a SCHEDULED or WAIT_HANDLE row run `delay` from now. Returns false if the row is in another status, or is not there. */
  reschedule(target: RowTarget, delay: NonNullable<SubmitOptions['delay']>): Promise<boolean>;
}

/** A row, by id or by its type and `once` key. */
export type RowTarget = { readonly id: string } | { readonly type: string; readonly once: string };

/** Checks the target of a call. @throws InvalidArgumentError */
function rowTarget(target: RowTarget): RowTarget {
  if (typeof target !== 'object' || target === null)
    throw new InvalidArgumentError(`The target is ${shownValue(target)}; name a row by { id } or by { type, once }.`);
  if ('id' in target) return { id: idText('id', target.id) };
  return { type: keyText('type', target.type, 100), once: keyText('once', target.once) };
}

/** Writes rows, in the caller's transaction or in transactions of its own, and wakes workers after the commit. */
export class RowSubmitter {
  readonly #registry: Registry;
  readonly #batcher: Batcher<NewRow, string>;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#batcher = new Batcher({
      run: (rows) => this.#write(rows),
      // One bad row must not fail its neighbours. After a connection error the rows may have been written, so none is written again.
      alone: (error) => !isConnectionError(error),
    });
  }

  /** @throws NotInTransactionError on use, unless `trx` is an open transaction. */
  in(trx: Knex.Transaction): InTransaction<BizTypes> {
    requireTransaction(trx, 'in(trx)');
    const registry = this.#registry;
    // In turn: of two submits of one `once` key that are under way at a time, the second must find the row of the first.
    const inTurn = <T>(step: (sql: SqlRunner) => Promise<T>): Promise<T> => registry.database.inTurn(trx, 'submit', step);
    const afterCommit = async (step: () => void): Promise<void> => (await transactionTrace(trx)).add(step);
    return {
      submit: async (type, context, options = {}) => {
        const rows = [await newRow(registry, type, context, options)];
        const submitted = await inTurn((sql) => writeRows(registry, sql, rows));
        await afterCommit(() => this.#wakeFor(rows, submitted));
        return first(submitted);
      },
      submitMany: async (type, contexts, options = {}) => {
        const rows = await this.#newRows(type, contexts, options);
        const submitted = await inTurn((sql) => writeRows(registry, sql, rows));
        await afterCommit(() => this.#wakeFor(rows, submitted));
        return submitted.map(({ id }) => id);
      },
      cancel: async (target) => {
        const cancelled = await inTurn(async (sql) => {
          const id = await this.#idOf(sql, target);
          return id === undefined ? [] : cancelRow(registry, sql, id);
        });
        if (cancelled.length > 0) await afterCommit(() => registry.cancelled(cancelled));
        return cancelled.length > 0;
      },
      reschedule: async (target, delay: Duration) => {
        return inTurn(async (sql) => {
          const id = await this.#idOf(sql, target);
          return id !== undefined && (await rescheduleRow(registry, sql, id, delay));
        });
      },
    };
  }

  /** Submits in transactions of its own; single submits that are under way at the same time share one. */
  now(): Submitter<BizTypes> {
    const { database } = this.#registry;
    return {
      submit: async (type, context, options = {}) => {
        database.refuseEnclosed('now().submit');
        const row = await newRow(this.#registry, type, context, options);
        if (row.once === null && row.gate === null) return { id: await this.#batcher.call(row), duplicate: false };
        const submitted = await database.transaction((sql) => writeRows(this.#registry, sql, [row]));
        this.#wakeFor([row], submitted);
        return first(submitted);
      },
      submitMany: async (type, contexts, options = {}) => {
        database.refuseEnclosed('now().submitMany');
        const rows = await this.#newRows(type, contexts, options);
        const submitted = await this.#writeAlone(rows);
        this.#wakeFor(rows, submitted);
        return submitted.map(({ id }) => id);
      },
    };
  }

  /** The id of a row; `undefined` if no row was submitted with the key, or its window has ended. */
  async idOf(target: RowTarget): Promise<string | undefined> {
    const given = rowTarget(target);
    return 'id' in given ? given.id : this.#registry.database.use((sql) => this.#idOf(sql, given));
  }

  async #write(rows: readonly NewRow[]): Promise<readonly string[]> {
    const submitted = await this.#writeAlone(rows);
    this.#wakeFor(rows, submitted);
    return submitted.map(({ id }) => id);
  }

  /** Writes all rows or none, in a transaction of their own. If some were left, the batcher would write them again when it isolates the bad row. */
  async #writeAlone(rows: readonly NewRow[]): Promise<Submitted[]> {
    const { database } = this.#registry;
    await database.describe();
    const oneStatement = fitsOneStatement(database, rows) && rows.every((row) => row.gate === null && row.once === null);
    const write = (sql: SqlRunner): Promise<Submitted[]> => writeRows(this.#registry, sql, rows);
    return oneStatement ? database.use(write) : database.transaction(write);
  }

  /** Wakes workers for the rows that are new, and for those whose time was changed. */
  #wakeFor(rows: readonly NewRow[], submitted: readonly Submitted[]): void {
    const isFresh = (_: unknown, i: number): boolean => submitted[i]?.duplicate === false;
    this.#registry.wakeFor(
      rows.filter(isFresh),
      submitted.filter(isFresh).map(({ id }) => id),
    );
    if (submitted.some(({ earlier }) => earlier === 'replaced')) this.#registry.wake();
  }

  async #idOf(sql: SqlRunner, target: RowTarget): Promise<string | undefined> {
    const given = rowTarget(target);
    if ('id' in given) return given.id;
    return this.#registry.once.find(sql, onceScope(given.type), given.once);
  }

  async #newRows<Context>(type: string, contexts: readonly Context[], options: ManyOptions<Context>): Promise<NewRow[]> {
    if (!Array.isArray(contexts))
      throw new InvalidArgumentError('submitMany takes an array of contexts; for a source too large for memory use fanOut.');
    const rows: NewRow[] = [];
    for (const context of contexts) {
      const own: SubmitOptions =
        typeof options === 'function' ? notAPromise('options', options(context), 'make the options of a row without waiting') : options;
      if (typeof options !== 'function' && own.once !== undefined)
        throw new InvalidArgumentError('once is the key of one row; give submitMany a function of each context that returns it.');
      rows.push(await newRow(this.#registry, type, context, own));
    }
    return rows;
  }
}

function first(submitted: readonly Submitted[]): Submitted {
  const [one] = submitted;
  if (!one) throw new TypeError('a submit wrote no row');
  return one;
}
