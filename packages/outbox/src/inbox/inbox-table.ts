import type { Message } from '@holdfast/broker';
import { cleanText, type Database, deleteOlder, fitKey, insertIgnore, insertNew, type SqlRunner, valuesTable } from '@holdfast/core';

/** Result of entering a message. */
export type Entry =
  /** New: it is noted as handled, together with the changes of the transaction. */
  | 'first'
  /** Handled before, or being handled by a transaction that this one waited for. */
  | 'duplicate'
  /** Older than the retention and not noted: it is unknown if it was handled. */
  | 'late';

/** A message that was set aside. */
export interface ParkedMessage {
  readonly consumer: string;
  readonly message: Message;
  /** `late` or `crash-loop`. */
  readonly reason: string;
  /** Epoch ms. */
  readonly parkedAt: number;
}

/** The fields of a foreign message that the columns of a parked one do not hold, in a header whose value is an object. */
const originalHeader = 'holdfast-original';
interface Original extends Pick<Message, 'id' | 'topic' | 'key' | 'contentType'> {
  /** The value of a header of this name that the message has itself. */
  readonly header?: string;
}

/**
 * The statements on `inbox_message`, `inbox_start` and `inbox_parked`. Messages may be foreign: an id of any length, with any character, is
 * stored by `fitKey`.
 */
export class InboxTable {
  readonly database: Database;
  readonly #messages: string;
  readonly #starts: string;
  readonly #parked: string;

  constructor(database: Database) {
    this.database = database;
    this.#messages = database.table('inbox_message');
    this.#starts = database.table('inbox_start');
    this.#parked = database.table('inbox_parked');
  }

  /**
   * Notes the message as handled, unless it is known or too old, in one statement. A second transaction with the same message waits here
   * until the first has ended.
   */
  async enter(sql: SqlRunner, consumer: string, messageId: string, firstPutAt: number | undefined, retentionMs: number): Promise<Entry> {
    const id = fitKey(messageId);
    const columns = '(consumer, message_id, first_put_at)';
    const time = this.database.family === 'postgres' ? '?::bigint' : '?';
    const age = firstPutAt === undefined ? '{now}' : time;
    const select = `SELECT ?, ?, ${age}${this.database.family === 'mysql' ? ' FROM DUAL' : ''} WHERE ${firstPutAt === undefined ? '1 = 1' : `${time} >= {now} - ${retentionMs}`}`;
    const params = firstPutAt === undefined ? [consumer, id] : [consumer, id, firstPutAt, firstPutAt];
    const statement =
      this.database.family === 'mysql'
        ? `INSERT IGNORE INTO ${this.#messages} ${columns} ${select}`
        : `INSERT INTO ${this.#messages} ${columns} ${select} ON CONFLICT DO NOTHING`;
    if ((await sql.run(statement, params)) > 0) return 'first';
    const known = await sql.rows(`SELECT 1 AS one FROM ${this.#messages} WHERE consumer = ? AND message_id = ?`, [consumer, id]);
    return known.length > 0 || firstPutAt === undefined ? 'duplicate' : 'late';
  }

  /** Enters many messages; the results are in their order. The second of two equal messages is a duplicate. */
  async enterMany(
    sql: SqlRunner,
    consumer: string,
    messages: readonly { readonly id: string; readonly firstPutAt: number | undefined }[],
    retentionMs: number,
  ): Promise<readonly Entry[]> {
    const entries: Entry[] = [];
    if (this.database.family === 'mysql') {
      // MySQL returns nothing from an INSERT.
      for (const { id, firstPutAt } of messages) entries.push(await this.enter(sql, consumer, id, firstPutAt, retentionMs));
      return entries;
    }
    const rows = messages.map(({ id, firstPutAt }) => ({ consumer, id: fitKey(id), first: firstPutAt ?? null }));
    const values = valuesTable(this.database, { consumer: 'text', id: 'text', first: 'integer' }, rows);
    // In the order of ids, so that two transactions with the same messages cannot deadlock.
    const noted = await sql.rows<{ message_id: string }>(
      `INSERT INTO ${this.#messages} (consumer, message_id, first_put_at) SELECT consumer, id, COALESCE(first, {now}) FROM ${values.sql} WHERE COALESCE(first, {now}) >= {now} - ${retentionMs} ORDER BY id ON CONFLICT DO NOTHING RETURNING message_id`,
      [values.param],
    );
    const first = new Set(noted.map((row) => row.message_id));
    for (const { id, firstPutAt } of messages)
      entries.push(first.delete(fitKey(id)) ? 'first' : await this.enter(sql, consumer, id, firstPutAt, retentionMs));
    return entries;
  }

  /** Deletes the note of a message whose handler failed in a transaction that continues. */
  async forget(sql: SqlRunner, consumer: string, messageId: string): Promise<void> {
    await sql.run(`DELETE FROM ${this.#messages} WHERE consumer = ? AND message_id = ?`, [consumer, fitKey(messageId)]);
  }

  /** Notes, in a transaction of its own, that a handler starts. Returns the number of starts, this one included. */
  async started(consumer: string, messageId: string): Promise<number> {
    return this.database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.database, this.#starts, ['consumer', 'message_id', 'starts', 'started_at']), [
        consumer,
        fitKey(messageId),
        0,
        0,
      ]);
      await sql.run(`UPDATE ${this.#starts} SET starts = starts + 1, started_at = {now} WHERE consumer = ? AND message_id = ?`, [
        consumer,
        fitKey(messageId),
      ]);
      const [row] = await sql.rows<{ starts: number }>(`SELECT starts FROM ${this.#starts} WHERE consumer = ? AND message_id = ?`, [
        consumer,
        fitKey(messageId),
      ]);
      return Number(row?.starts ?? 1);
    });
  }

  /** Forgets the starts of a message whose handler returned or threw. */
  async ended(consumer: string, messageId: string): Promise<void> {
    await this.database.run(`DELETE FROM ${this.#starts} WHERE consumer = ? AND message_id = ?`, [consumer, fitKey(messageId)]);
  }

  /** Sets a message aside; does nothing if it is already. */
  async park(consumer: string, message: Message, reason: string): Promise<void> {
    await this.database.run(
      insertNew(
        this.database,
        `INTO ${this.#parked} (consumer, message_id, topic, message_key, headers, body, content_type, reason, parked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {now})`,
      ),
      parkedValues(consumer, message, reason),
    );
  }

  /** Messages that were set aside, oldest first; only `messageId` if it is given. */
  async parked(consumer: string, messageId: string | undefined, limit: number): Promise<ParkedMessage[]> {
    const rows = await this.database.rows<ParkedRow>(
      `SELECT message_id, topic, message_key, headers, body, content_type, reason, parked_at FROM ${this.#parked} WHERE consumer = ?${messageId === undefined ? '' : ' AND message_id = ?'} ORDER BY parked_at, message_id LIMIT ${limit}`,
      messageId === undefined ? [consumer] : [consumer, fitKey(messageId)],
    );
    return rows.map((row) => ({ consumer, reason: row.reason, parkedAt: Number(row.parked_at), message: parkedMessage(row) }));
  }

  /** Deletes a message that was set aside. Returns the number of deleted rows. */
  async unpark(sql: SqlRunner, consumer: string, messageId: string): Promise<number> {
    return sql.run(`DELETE FROM ${this.#parked} WHERE consumer = ? AND message_id = ?`, [consumer, fitKey(messageId)]);
  }

  /**
   * Deletes notes older than the retention, starts of which nothing was heard since, and messages that were set aside longer ago than
   * `keepParkedMs`. Notes stay for an hour more, so that a message counts as late before its note is gone.
   */
  async purge(
    retentionMs: number,
    keepParkedMs: number,
    signal?: AbortSignal,
  ): Promise<{ readonly notes: number; readonly parked: number }> {
    const notes = await deleteOlder(this.database, this.#messages, 'first_put_at', `{now} - ${retentionMs + 3_600_000}`, signal);
    await deleteOlder(this.database, this.#starts, 'started_at', `{now} - ${retentionMs}`, signal);
    return { notes, parked: await deleteOlder(this.database, this.#parked, 'parked_at', `{now} - ${keepParkedMs}`, signal) };
  }
}

interface ParkedRow {
  readonly message_id: string;
  readonly topic: string;
  readonly message_key: string | null;
  readonly headers: string;
  readonly body: Uint8Array;
  readonly content_type: string;
  readonly reason: string;
  readonly parked_at: string | number;
}

function parkedValues(consumer: string, { id, topic, key, headers, body, contentType }: Message, reason: string): readonly unknown[] {
  const columns = [fitKey(id), fitText(topic, 191), key === undefined ? null : fitText(key, 191), fitText(contentType, 100)] as const;
  const exact = columns[0] === id && columns[1] === topic && columns[2] === (key ?? null) && columns[3] === contentType;
  const header = headers[originalHeader];
  const original: Original = { id, topic, contentType, ...(key === undefined ? {} : { key }), ...(header === undefined ? {} : { header }) };
  // JSON escapes NUL and lone surrogates.
  const text = JSON.stringify(exact ? headers : { ...headers, [originalHeader]: original });
  return [consumer, columns[0], columns[1], columns[2], text, body, columns[3], reason];
}

function parkedMessage(row: ParkedRow): Message {
  const { [originalHeader]: original, ...headers } = JSON.parse(row.headers) as Record<string, string> & {
    [originalHeader]?: Original | string;
  };
  const withOwn = (header: string | undefined) => (header === undefined ? headers : { ...headers, [originalHeader]: header });
  if (typeof original === 'object') {
    const { header, ...fields } = original;
    return { ...fields, headers: withOwn(header), body: row.body };
  }
  return {
    id: row.message_id,
    topic: row.topic,
    ...(row.message_key === null ? {} : { key: row.message_key }),
    headers: withOwn(original),
    body: row.body,
    contentType: row.content_type,
  };
}

/** A text of at most `max` characters that every database stores, for operators to read. */
function fitText(text: string, max: number): string {
  const clean = cleanText(text);
  return clean.length <= max ? clean : cleanText(clean.slice(0, max));
}
