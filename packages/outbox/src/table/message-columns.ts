import type { Message } from '@holdfast/broker';
import type { LaneRow } from '@holdfast/core';

/** Columns that a message keeps wherever it is: waiting, parked, delayed, dead. */
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

/** What is read to publish a message. */
export const publishColumns = messageColumns.filter((name) => name !== 'tenant');

/** A message as it is read to be published. */
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
 * What messages wait behind: those of one topic and key behind each other, one without a key behind nothing. Topics have no
 * spaces and no `#`.
 */
export function orderName(row: Pick<OutboxRow, 'id' | 'topic' | 'message_key'>): string {
  return row.message_key === null ? `#${row.id}` : `${row.topic} ${row.message_key}`;
}

/** What travels. `ce_time` is when the message was first put, from which an inbox tells a late duplicate. */
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

/** Messages of a burst share their millisecond. */
function isoTime(ms: number): string {
  if (ms !== lastMs) {
    lastMs = ms;
    lastIso = new Date(ms).toISOString();
  }
  return lastIso;
}
