import type { Message, Publisher, PublishResult } from '@holdfast/broker';
import {
  checkpoint,
  cleanText,
  type Database,
  Drain,
  InvalidArgumentError,
  keyAsText,
  type Logger,
  quoted,
  requireTransaction,
  requireVersionColumn,
  requireVersionValue,
  type SqlRunner,
  tableColumns,
  transactionTrace,
} from '@holdfast/core';
import type { Knex } from 'knex';

/** The message that is sent for a row. */
export interface TrackedMessage {
  readonly topic: string;
  /** Messages of one key are published in order. Default none. */
  readonly key?: string;
  /** A `Uint8Array` is sent as it is; any other value as JSON. */
  readonly payload: unknown;
  /** Headers that travel with the message. Names become lower case, line breaks spaces. Default none. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Columns of a tracked table, and the message for a row. */
export interface TrackOptions<Row> {
  /** Column of the primary key. Default `id`. */
  readonly id?: string;
  /** Column of the state. Default `mq_state`. */
  readonly state?: string;
  /** Values of the state column. Default 0, 1 and 2. */
  readonly states?: { readonly unsent: number; readonly sent: number; readonly failed: number };
  /**
   * A column of whole numbers that every change of the row increments. The state is written only if this column still has the value that was
   * read. Without that condition version 1 is published, the row becomes version 2 and unsent, the publisher of version 1 writes "sent", and
   * version 2 is never found. A time, such as `updated_at`, is refused at the first use: two changes may have the same time, even with
   * microseconds. A text or uuid that every change replaces by a new one will do. Required, unless `insertOnly` is given.
   */
  readonly version?: string;
  /** Declares that rows never change after their insert, so that the table needs no version. */
  readonly insertOnly?: true;
  /**
   * Makes the message of a committed row. 64-bit columns are strings in the row, on every database. If it throws, a warning is logged and
   * the row stays unsent.
   */
  readonly message: (row: Row) => TrackedMessage;
}

/** The part of an outbox that a tracked table needs. */
interface Host {
  readonly database: Database;
  readonly publisher: Publisher;
  readonly logger: Logger;
}

/** Result of publishing rows. */
export interface TrackedResult {
  readonly sent: number;
  /** Rows that were not published. They stay unsent for a later scan, or become failed if the broker can never accept them. */
  readonly failed: number;
  /** Rows that were published and changed meanwhile: they are unsent again. */
  readonly changed: number;
}

/**
 * Publishes rows of a table that carries its own `mq_state` (0 unsent, 1 sent, 2 failed) instead of messages in the outbox. Rows are
 * published after their transaction has committed, and their state is written by compare-and-set on a version. A row stays unsent after
 * a crash, and a scan over the state column finds it.
 */
export class TrackedTable<Row extends Record<string, unknown>> {
  readonly #host: Host;
  readonly #table: string;
  readonly #options: TrackOptions<Row>;
  readonly #id: string;
  readonly #state: string;
  readonly #states: { readonly unsent: number; readonly sent: number; readonly failed: number };
  #pending: string[] = [];
  readonly #drain = new Drain({
    pending: () => this.#pending.length > 0,
    step: () => this.#publishNext(),
    onError: () => undefined,
  });
  #columns: string | undefined;

  constructor(host: Host, table: string, options: TrackOptions<Row>) {
    if (options.version === undefined && options.insertOnly !== true) {
      throw new InvalidArgumentError(
        `track('${table}') has no version column: a change that commits while its row is being published would be marked as sent and never published. Name a column that each change increments, as in version: 'version', or pass insertOnly: true if rows never change.`,
      );
    }
    this.#host = host;
    this.#table = table;
    this.#options = options;
    this.#id = options.id ?? 'id';
    this.#state = options.state ?? 'mq_state';
    this.#states = options.states ?? { unsent: 0, sent: 1, failed: 2 };
    for (const name of [table, this.#id, this.#state, options.version ?? 'x']) {
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
        throw new InvalidArgumentError(
          `${JSON.stringify(name)} is not a valid name of a table or column; use letters, digits and underscores.`,
        );
    }
  }

  /**
   * Publishes rows after the commit of `trx`, which must have written their state as unsent.
   * @throws NotInTransactionError; InvalidArgumentError for a column that does not exist, or that cannot be a version
   */
  in(trx: Knex.Transaction): { publish(...ids: (string | number | bigint)[]): Promise<void> } {
    requireTransaction(trx, 'track.in(trx)');
    return {
      publish: async (...ids) => {
        // On the caller's connection: SQLite has no other while the transaction is open.
        const keys = ids.map(idOf);
        await this.#readColumns(await this.#host.database.within(trx, 'track.in(trx)'));
        (await transactionTrace(trx)).add(() => this.#enqueue(keys));
      },
    };
  }

  /** Publishes rows that are unsent or failed, by id. A scan calls it with the rows that it found. */
  async publish(ids: readonly (string | number | bigint)[]): Promise<TrackedResult> {
    const result = { sent: 0, failed: 0, changed: 0 };
    const keys = ids.map(idOf);
    for (let from = 0; from < keys.length; from += 200) {
      const part = await this.#publish(keys.slice(from, from + 200));
      result.sent += part.sent;
      result.failed += part.failed;
      result.changed += part.changed;
    }
    return result;
  }

  /** Resolves when every row that was committed so far is published, or has failed. */
  async flush(): Promise<void> {
    await this.#drain.running;
  }

  #enqueue(ids: readonly string[]): void {
    this.#pending.push(...ids);
    this.#drain.start();
  }

  /** Publishes the next ids. Rows that fail stay unsent: they are not tried again here. */
  async #publishNext(): Promise<void> {
    const ids = this.#pending.splice(0, 200);
    try {
      await this.#publish(ids);
    } catch (err) {
      this.#host.logger.warn({ err, table: this.#table, rows: ids.length }, 'rows were not published; they stay unsent for a scan to find');
    }
  }

  async #publish(ids: readonly string[]): Promise<TrackedResult> {
    const { database, publisher } = this.#host;
    const { version } = this.#options;
    const table = database.table(this.#table);
    const columns = await this.#readColumns(database);
    const versionText = version === undefined ? '' : `, ${database.text(version)} AS holdfast_version`;
    // Read after the commit, so that the message and the version are those of one committed row.
    const rows = await database.rows<Row & { holdfast_id: string; holdfast_version?: string }>(
      `SELECT ${columns}, ${database.text(this.#id)} AS holdfast_id${versionText} FROM ${table} WHERE ${this.#id} IN (${ids.map(() => '?').join(', ')}) AND ${this.#state} <> ${this.#states.sent} ORDER BY ${this.#id}`,
      ids,
    );
    const result = { sent: 0, failed: 0, changed: 0 };
    if (rows.length === 0) return result;
    const [sendable, messages] = this.#messages(rows);
    result.failed = rows.length - sendable.length;
    if (sendable.length === 0) return result;
    let results: readonly PublishResult[];
    try {
      results = await publisher.publish(messages, { signal: AbortSignal.timeout(30_000) });
    } catch (error) {
      this.#host.logger.warn({ err: error, table: this.#table }, 'rows were not published; they stay unsent for a scan to find');
      return { ...result, failed: rows.length };
    }
    await checkpoint('track:published');
    for (const [i, row] of sendable.entries()) {
      const outcome = results[i]?.outcome;
      if (outcome !== 'acked') result.failed += 1;
      if (outcome !== 'acked' && outcome !== 'poison') continue;
      const changed = await this.#mark(row, outcome === 'acked' ? this.#states.sent : this.#states.failed);
      if (outcome === 'acked') result[changed ? 'sent' : 'changed'] += 1;
    }
    return result;
  }

  /** The columns to read. 64-bit columns are read as text, which no driver rounds. */
  async #readColumns(sql: Pick<SqlRunner, 'rows'>): Promise<string> {
    if (this.#columns !== undefined) return this.#columns;
    const { database } = this.#host;
    const columns = await tableColumns(database, sql, this.#table);
    const wanted = [this.#id, this.#state, ...(this.#options.version === undefined ? [] : [this.#options.version])];
    for (const name of wanted) {
      if (!columns.has(name))
        throw new InvalidArgumentError(
          columns.size === 0
            ? `There is no table ${this.#table} to track; correct the name, or create it.`
            : `The table ${this.#table} has no column ${name}; it has ${[...columns.keys()].join(', ')}.`,
        );
    }
    const { version } = this.#options;
    if (version !== undefined) requireVersionColumn(this.#table, version, columns.get(version) ?? '');
    this.#columns = [...columns]
      .map(([name, type]) => {
        const column = quoted(database, name);
        return type.startsWith('bigint') ? `${database.text(column)} AS ${column}` : column;
      })
      .join(', ');
    return this.#columns;
  }

  async #mark(row: { readonly holdfast_id: string; readonly holdfast_version?: string }, state: number): Promise<boolean> {
    const { database } = this.#host;
    const { version } = this.#options;
    const same = version === undefined ? '' : ` AND ${database.text(version)} = ?`;
    const changed = await database.run(
      `UPDATE ${database.table(this.#table)} SET ${this.#state} = ${state}${this.#keepVersion()} WHERE ${this.#id} = ?${same}`,
      version === undefined ? [row.holdfast_id] : [row.holdfast_id, row.holdfast_version],
    );
    return changed > 0;
  }

  /** Without it MySQL's `ON UPDATE CURRENT_TIMESTAMP` would count the new state as a change of the row. */
  #keepVersion(): string {
    const { version } = this.#options;
    return version !== undefined && this.#host.database.family === 'mysql' ? `, ${version} = ${version}` : '';
  }

  /** Leaves out rows whose message cannot be made; the others are sent nevertheless. */
  #messages<Read extends Row & { holdfast_id: string; holdfast_version?: string }>(rows: readonly Read[]): [Read[], Message[]] {
    const sendable: Read[] = [];
    const messages: Message[] = [];
    for (const row of rows) {
      try {
        if (this.#options.version !== undefined) requireVersionValue(this.#table, this.#options.version, row.holdfast_version ?? null);
        messages.push(this.#message(row, row.holdfast_id, row.holdfast_version));
        sendable.push(row);
      } catch (err) {
        this.#host.logger.warn({ err, table: this.#table, id: row.holdfast_id }, 'no message could be made of a row; the row stays unsent');
      }
    }
    return [sendable, messages];
  }

  #message(row: Row, id: string, version: string | undefined): Message {
    const { topic, key, payload, headers } = this.#options.message(row);
    const bytes = payload instanceof Uint8Array;
    const plain = Object.entries(headers ?? {}).map(([name, value]) => [
      name.toLowerCase(),
      cleanText(String(value)).replace(/[\r\n]/g, ' '),
    ]);
    return {
      // One version of a row has the same id each time it is published, by whichever process.
      id: version === undefined ? `${this.#table}:${id}` : `${this.#table}:${id}:${version}`,
      topic,
      ...(key === undefined ? {} : { key }),
      headers: { ...Object.fromEntries(plain), ce_time: new Date().toISOString() },
      body: bytes ? (payload as Uint8Array) : Buffer.from(JSON.stringify(payload)),
      contentType: bytes ? 'application/octet-stream' : 'application/json',
    };
  }
}

/** The id of a row of the service's table, as text. @throws InvalidArgumentError */
function idOf(id: unknown): string {
  return keyAsText('The id of a row', id, 1_000);
}
