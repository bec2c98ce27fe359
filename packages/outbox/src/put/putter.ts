import {
  type Database,
  InvalidArgumentError,
  keyText,
  Once,
  requireKnown,
  requireTransaction,
  rowsAtPresent,
  type SqlRunner,
  transactionTrace,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { insertMessages } from './insert-messages.ts';
import { type NewMessage, newMessage, type PutOptions } from './new-message.ts';
import type { PayloadInput, Topics } from './topic.ts';

/** Result of a put. */
export interface Put {
  /** The message's id, as consumers see it. */
  readonly id: string;
  /** True if a message with this id was put before; nothing was written then. */
  readonly duplicate: boolean;
}

/** One message of `putMany`. */
export interface PutMany<Input> {
  readonly payload: Input;
  readonly options?: PutOptions;
}

/** Puts messages, and takes delayed ones back. Both take effect when their transaction commits. */
export interface OutboxTransaction<T extends Topics> {
  /**
   * Puts a message. It is published after the root transaction has committed, and never if that rolls back.
   * @throws UnknownTopicError, InvalidPayloadError, NotInTransactionError
   */
  put<Name extends keyof T & string>(topic: Name, payload: PayloadInput<T[Name]>, options?: PutOptions): Promise<Put>;
  /**
   * Puts thousands of messages in a few statements. Returns what `put` would return for each, in the same order: a message whose `id` was put
   * before, also earlier in the same call, is a duplicate and is not written; the others are. If one message is refused, none is written.
   * Throws what `put` throws.
   */
  putMany<Name extends keyof T & string>(topic: Name, messages: readonly PutMany<PayloadInput<T[Name]>>[]): Promise<Put[]>;
  /** Deletes a message that is still delayed, and forgets its `id`, so that it may be put again. Returns whether it was delayed. */
  cancel(id: string): Promise<boolean>;
}

/** The parts of an outbox that a {@link Putter} uses. */
export interface PutterOptions<T extends Topics> {
  readonly database: Database;
  readonly topics: T;
  readonly maxBodyBytes: number;
  /** Time for which an `id` makes later puts with the same id do nothing, in ms. */
  readonly idWindowMs: number;
  /** Returns the lane of a message without a key. */
  readonly freeLane: () => number;
  /** Called with messages that have been committed. */
  readonly onCommitted: (messages: readonly NewMessage[]) => void;
}

const onceScope = 'outbox';

/** A message that was checked, and the id that its caller gave. */
interface Checked {
  readonly message: NewMessage;
  readonly id: string | undefined;
}

interface Written {
  readonly message: NewMessage;
  readonly put: Put;
}

/** The messages that were written: duplicates are not. */
function newOf(written: readonly Written[]): NewMessage[] {
  return written.flatMap(({ message, put }) => (put.duplicate ? [] : [message]));
}

/** Checks messages and writes them, in the caller's transaction or in one of their own. */
export class Putter<T extends Topics> {
  readonly #options: PutterOptions<T>;
  readonly #database: Database;
  readonly #once: Once;

  constructor(options: PutterOptions<T>) {
    this.#options = options;
    this.#database = options.database;
    this.#once = new Once(options.database);
  }

  /** Puts in the caller's transaction. @throws NotInTransactionError unless `trx` is an open transaction */
  in(trx: Knex.Transaction): OutboxTransaction<T> {
    requireTransaction(trx, 'in(trx)');
    // In turn: of two puts of one id that are under way at a time, the second must find the first.
    const inTurn = <R>(step: (sql: SqlRunner) => Promise<R>): Promise<R> => this.#database.inTurn(trx, 'put', step);
    return {
      put: async (topic, payload, options = {}) => {
        const message = await this.#message(topic, payload, options);
        const put = await inTurn((sql) => this.#write(sql, message, options));
        if (!put.duplicate) await this.#afterCommit(trx, [message]);
        return put;
      },
      putMany: async (topic, messages) => {
        const rows = await this.#messages(topic, messages);
        const written = await inTurn((sql) => this.#writeMany(sql, rows));
        await this.#afterCommit(trx, newOf(written));
        return written.map(({ put }) => put);
      },
      cancel: (id) => inTurn((sql) => this.#cancel(sql, id)),
    };
  }

  /** Puts in transactions of their own. */
  now(): OutboxTransaction<T> {
    return {
      put: async (topic, payload, options = {}) => {
        this.#database.refuseEnclosed('now().put');
        const message = await this.#message(topic, payload, options);
        const put =
          options.id === undefined && message.order === 'causal'
            ? await this.#database.use((sql) => this.#write(sql, message, options))
            : await this.#database.transaction((sql) => this.#write(sql, message, options));
        if (!put.duplicate) this.#options.onCommitted([message]);
        return put;
      },
      putMany: async (topic, messages) => {
        this.#database.refuseEnclosed('now().putMany');
        const rows = await this.#messages(topic, messages);
        const written = await this.#database.transaction((sql) => this.#writeMany(sql, rows));
        this.#options.onCommitted(newOf(written));
        return written.map(({ put }) => put);
      },
      cancel: async (id) => {
        this.#database.refuseEnclosed('now().cancel');
        return this.#database.transaction((sql) => this.#cancel(sql, id));
      },
    };
  }

  /** Deletes ids whose window has ended. */
  async purgeIds(signal?: AbortSignal): Promise<void> {
    await this.#once.purge(signal);
  }

  #message(topic: string, payload: unknown, options: PutOptions): Promise<NewMessage> {
    return newMessage(this.#options.topics, this.#options, topic, payload, options);
  }

  async #messages(topic: string, messages: readonly PutMany<unknown>[]): Promise<Checked[]> {
    if (!Array.isArray(messages)) throw new InvalidArgumentError('putMany takes an array of { payload, options }.');
    const rows: Checked[] = [];
    for (const one of messages as readonly PutMany<unknown>[]) {
      requireKnown('an item of putMany', one, ['payload', 'options']);
      const { payload, options = {} } = one;
      rows.push({ message: await this.#message(topic, payload, options), id: options.id });
    }
    return rows;
  }

  async #write(sql: SqlRunner, message: NewMessage, options: PutOptions): Promise<Put> {
    if (options.id !== undefined) {
      const entry = await this.#once.enter(sql, onceScope, options.id, this.#options.idWindowMs);
      if (!entry.first) return { id: options.id, duplicate: true };
    }
    await insertMessages(this.#database, sql, [message]);
    return { id: message.message_id, duplicate: false };
  }

  async #writeMany(sql: SqlRunner, rows: readonly Checked[]): Promise<Written[]> {
    const ids = rows.flatMap(({ id }) => (id === undefined ? [] : [id]));
    const entered = ids.length === 0 ? [] : await this.#once.enterMany(sql, onceScope, ids, this.#options.idWindowMs);
    let next = 0;
    const written = rows.map(({ message, id }): Written => {
      const duplicate = id !== undefined && !entered[next++];
      return { message, put: { id: message.message_id, duplicate } };
    });
    await insertMessages(this.#database, sql, newOf(written));
    return written;
  }

  /** Also forgets the id: nothing was sent for it, so a later put with it must send. A put at the same time waits until this has committed. */
  async #cancel(sql: SqlRunner, id: string): Promise<boolean> {
    const messageId = keyText('id', id);
    const delayed = this.#database.table('outbox_delayed');
    const text = this.#database.text('id');
    const found = await rowsAtPresent<{ id: string }>(this.#database, sql, `SELECT ${text} AS id FROM ${delayed} WHERE message_id = ?`, [
      messageId,
    ]);
    if (found.length === 0) return false;
    const ids = found.map((row) => BigInt(row.id)).join(', ');
    const deleted = await sql.run(`${this.#database.deleteByPrimaryKey(delayed)} WHERE id IN (${ids})`);
    if (deleted > 0) await this.#once.forget(sql, onceScope, messageId);
    return deleted > 0;
  }

  async #afterCommit(trx: Knex.Transaction, messages: readonly NewMessage[]): Promise<void> {
    (await transactionTrace(trx)).add(() => this.#options.onCommitted(messages));
  }
}
