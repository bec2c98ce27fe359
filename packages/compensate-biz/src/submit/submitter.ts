import {
  Batcher,
  type Duration,
  durationMs,
  InvalidArgumentError,
  idText,
  isConnectionError,
  keyText,
  notAPromise,
  requireTransaction,
  type SqlRunner,
  transactionTrace,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizTypes, ContextInput } from '../biz-type.ts';
import { cancelRow, rescheduleRow } from '../operate/steer.ts';
import type { Registry } from '../registry.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { fitsOneStatement, insertRows } from './insert-rows.ts';
import { type NewRow, newRow } from './new-row.ts';

/** A submit that was accepted. It holds once its transaction commits. */
export interface Submitted {
  /** A 64-bit number as text. */
  readonly id: string;
  /** `true` when `once` found an earlier row; `id` is the id of that row. */
  readonly duplicate: boolean;
}

/** Options of many rows: the same for all, or made from the context of each. */
export type ManyOptions<Context> = Omit<SubmitOptions, 'once'> | ((context: Context) => Omit<SubmitOptions, 'once'>);

/** Submits rows. */
export interface Submitter<Types extends BizTypes> {
  /** Writes a row. It runs as soon as a worker is free, or after `delay`. */
  submit<Type extends keyof Types & string>(type: Type, context: ContextInput<Types[Type]>, options?: SubmitOptions): Promise<Submitted>;
  /**
   * Writes thousands of rows per statement. Returns their ids in order. `options` are those of all rows, or a function of each context.
   * `once` is not for many rows: use `fanOut` or submit.
   */
  submitMany<Type extends keyof Types & string>(
    type: Type,
    contexts: readonly ContextInput<Types[Type]>[],
    options?: ManyOptions<ContextInput<Types[Type]>>,
  ): Promise<string[]>;
}

/** Submits and changes rows within one transaction. `in(trx)` returns it. */
export interface InTransaction<Types extends BizTypes> extends Submitter<Types> {
  /** Cancels a row that has not ended. A running one gets its signal, and nothing more of its run is accepted. */
  cancel(target: RowTarget): Promise<boolean>;
  /** Changes when a waiting row runs. */
  reschedule(target: RowTarget, delay: NonNullable<SubmitOptions['delay']>): Promise<boolean>;
}

/** A row, by id or by its type and `once` key. */
export type RowTarget = { readonly id: string } | { readonly type: string; readonly once: string };

/** Writes rows, in the caller's transaction or in transactions of its own, and wakes workers after the commit. */
export class RowSubmitter {
  readonly #registry: Registry;
  readonly #onCancelled: (id: string) => void;
  readonly #batcher: Batcher<NewRow, string>;

  /** @param onCancelled called after the commit with the id of each row that was cancelled */
  constructor(registry: Registry, onCancelled: (id: string) => void) {
    this.#registry = registry;
    this.#onCancelled = onCancelled;
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
    const runner = (): Promise<SqlRunner> => registry.database.within(trx, 'submit');
    const afterCommit = async (step: () => void): Promise<void> => (await transactionTrace(trx)).add(step);
    return {
      submit: async (type, context, options = {}) => {
        const row = await newRow(registry, type, context, options);
        const submitted = await this.#submitOnce(await runner(), row, options.once);
        await afterCommit(() => registry.wakeFor([row], [submitted.id]));
        return submitted;
      },
      submitMany: async (type, contexts, options = {}) => {
        const rows = await this.#newRows(type, contexts, options);
        const ids = await insertRows(registry.database, await runner(), rows);
        await afterCommit(() => registry.wakeFor(rows, ids));
        return ids;
      },
      cancel: async (target) => {
        const sql = await runner();
        const id = await this.#idOf(sql, target);
        const cancelled = id !== undefined && (await cancelRow(registry, sql, id));
        if (cancelled) await afterCommit(() => this.#onCancelled(id));
        return cancelled;
      },
      reschedule: async (target, delay: Duration) => {
        const sql = await runner();
        const id = await this.#idOf(sql, target);
        return id !== undefined && (await rescheduleRow(registry, sql, id, delay));
      },
    };
  }

  /** Submits in transactions of its own; single submits that are under way at the same time share one. */
  now(): Submitter<BizTypes> {
    const { database } = this.#registry;
    return {
      submit: async (type, context, options = {}) => {
        const row = await newRow(this.#registry, type, context, options);
        if (options.once === undefined && row.gate === null) return { id: await this.#batcher.call(row), duplicate: false };
        const submitted = await database.transaction((sql) => this.#submitOnce(sql, row, options.once));
        this.#registry.wakeFor([row], [submitted.id]);
        return submitted;
      },
      submitMany: async (type, contexts, options = {}) => {
        const rows = await this.#newRows(type, contexts, options);
        const ids = await this.#insertAlone(rows);
        this.#registry.wakeFor(rows, ids);
        return ids;
      },
    };
  }

  /** The id of a row; `undefined` if no row was submitted with the key, or its window has ended. */
  idOf(target: RowTarget): Promise<string | undefined> {
    return this.#registry.database.use((sql) => this.#idOf(sql, target));
  }

  async #write(rows: readonly NewRow[]): Promise<readonly string[]> {
    const ids = await this.#insertAlone(rows);
    this.#registry.wakeFor(rows, ids);
    return ids;
  }

  /** Writes rows in a transaction of their own: all or none, or rows would be written again beside a bad one. */
  async #insertAlone(rows: readonly NewRow[]): Promise<string[]> {
    const { database } = this.#registry;
    await database.describe();
    const single = fitsOneStatement(database, rows) && rows[0]?.gate === null;
    const insert = (sql: SqlRunner): Promise<string[]> => insertRows(database, sql, rows);
    return single ? database.use(insert) : database.transaction(insert);
  }

  /** Writes one row, under its `once` key if it has one. */
  async #submitOnce(sql: SqlRunner, row: NewRow, once: SubmitOptions['once']): Promise<Submitted> {
    const { database } = this.#registry;
    if (once === undefined) return { id: (await insertRows(database, sql, [row]))[0] ?? '', duplicate: false };
    const key = keyText('once', typeof once === 'string' ? once : once.key);
    const scope = onceScope(row.biz_type);
    const pending = typeof once === 'object' && 'while' in once;
    const windowMs = pending
      ? foreverMs
      : typeof once === 'object' && 'window' in once && once.window !== undefined
        ? durationMs(once.window, 'once.window')
        : weekMs;
    const entry = await this.#registry.once.enter(sql, scope, key, windowMs, (ref) =>
      pending ? this.#isPending(sql, ref) : this.#counts(sql, ref),
    );
    if (!entry.first) return { id: entry.ref ?? '', duplicate: true };
    const id = (await insertRows(database, sql, [row]))[0] ?? '';
    await this.#registry.once.setRef(sql, scope, key, id);
    return { id, duplicate: false };
  }

  /** A row that was cancelled did not do its work, and does not count: the next submit writes another. One that was purged had succeeded. */
  async #counts(sql: SqlRunner, id: string): Promise<boolean> {
    const rows = await sql.rows(
      `SELECT 1 AS one FROM ${this.#registry.database.table('compensate_biz')} WHERE id = ${BigInt(id)} AND status = 'CANCELLED'`,
    );
    return rows.length === 0;
  }

  async #isPending(sql: SqlRunner, id: string): Promise<boolean> {
    const rows = await sql.rows(
      `SELECT 1 AS one FROM ${this.#registry.database.table('compensate_biz')} WHERE id = ${BigInt(id)} AND status NOT IN ('SUCCESS', 'FAILED', 'CANCELLED')`,
    );
    return rows.length > 0;
  }

  async #idOf(sql: SqlRunner, target: RowTarget): Promise<string | undefined> {
    if ('id' in target) return idText('id', target.id);
    return this.#registry.once.find(sql, onceScope(target.type), keyText('once', target.once));
  }

  async #newRows<Context>(type: string, contexts: readonly Context[], options: ManyOptions<Context>): Promise<NewRow[]> {
    if (!Array.isArray(contexts))
      throw new InvalidArgumentError('submitMany takes an array of contexts; for a source too large for memory use fanOut.');
    const rows: NewRow[] = [];
    for (const context of contexts) {
      const own: SubmitOptions =
        typeof options === 'function' ? notAPromise('options', options(context), 'make the options of a row without waiting') : options;
      if (own.once !== undefined)
        throw new InvalidArgumentError('once is a key of one row; submitMany takes none. Use submit, or fanOut with childKey.');
      rows.push(await newRow(this.#registry, type, context, own));
    }
    return rows;
  }
}

const weekMs = 7 * 86_400_000;
const foreverMs = 3650 * 86_400_000;

/** The scope of the `once` keys of a type. */
export function onceScope(type: string): string {
  return `compensate-biz:${type}`;
}
