import type { Message } from '@holdfast/broker';
import type { LaneRow } from '@holdfast/core';

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

/** Makes the message that is sent. `ce_time` is the time of the first put, by which an inbox recognises a late duplicate. */
export function toMessage(row: OutboxRow): Message {
  const headers: Record<string, string> = row.headers === null ? {} : (JSON.parse(row.headers) as Record<string, string>);
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
