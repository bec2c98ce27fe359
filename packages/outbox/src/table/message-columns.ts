import type { Message } from '@holdfast/broker';
import { cleanText, InvalidArgumentError, type LaneRow } from '@holdfast/core';

/** Columns that a message keeps in every table: waiting, parked, delayed, dead. */
export const messageColumns = [
  'topic',
  'message_key',
  'message_id',
  'headers',
  'body',
  'content_type',
  'tenant',
  'subject',
  'first_put_at',
] as const;

/** Columns that the relay reads to publish a message. */
export const publishColumns: readonly (typeof messageColumns)[number][] = messageColumns.filter((name) => name !== 'tenant');

/** Columns that may be large. */
export const largeColumns: readonly (typeof messageColumns)[number][] = ['body', 'headers'];

/** A message as the relay reads it. */
export interface OutboxRow extends LaneRow {
  readonly topic: string;
  readonly message_key: string | null;
  readonly message_id: string;
  /** JSON, or `null` for none. */
  readonly headers: string | null;
  readonly body: Uint8Array;
  readonly content_type: string;
  readonly subject: string | null;
  /** Epoch ms. */
  readonly first_put_at: string | number;
}

/**
 * Names the line that a message stands in. Messages of one topic and key wait for each other; a message without a key waits for none.
 * A topic has no space and no `#` in its name, so two lines never share a name.
 */
export function orderName(row: Pick<OutboxRow, 'id' | 'topic' | 'message_key'>): string {
  return row.message_key === null ? `#${row.id}` : `${row.topic} ${row.message_key}`;
}

/** Headers of a row. @throws InvalidArgumentError if they are not a JSON object of texts, as only a foreign writer leaves them */
export function headersOf({ headers }: Pick<OutboxRow, 'headers'>): Record<string, string> {
  if (headers === null) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(headers);
  } catch (cause) {
    throw unreadable(headers, cause);
  }
  const fits = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) && Object.values(parsed).every(isText);
  if (!fits) throw unreadable(headers, undefined);
  return parsed as Record<string, string>;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function unreadable(headers: string, cause: unknown): InvalidArgumentError {
  return new InvalidArgumentError(
    `The headers of the row are not a JSON object of texts: ${JSON.stringify(cleanText(headers.slice(0, 60)))}. Correct them in outbox_dead, then redrive the message.`,
    cause,
  );
}

/**
 * Makes the message that is sent. `ce_time` is the time of the first put, by which an inbox recognises a late duplicate.
 * @throws if the row can't be read as a message
 */
export function toMessage(row: OutboxRow): Message {
  const headers = headersOf(row);
  headers.ce_time = isoTime(Number(row.first_put_at));
  if (row.subject !== null) headers.ce_subject = row.subject;
  return {
    id: row.message_id,
    topic: row.topic,
    ...(row.message_key === null ? {} : { key: row.message_key }),
    headers,
    body: row.body,
    contentType: row.content_type,
  };
}

let lastMs = Number.NaN;
let lastIso = '';

/** Keeps the last result, since the messages of a burst share their millisecond. */
function isoTime(ms: number): string {
  if (ms !== lastMs) {
    lastMs = ms;
    lastIso = new Date(ms).toISOString();
  }
  return lastIso;
}
