import type { Message } from '../port/message.ts';

/**
 * A message's headers and metadata as CloudEvents 1.0 in binary mode (`ce_id`, `ce_type`, `ce_source`), so that consumers in any
 * language can read it. The key is sent as the extension `ce_partitionkey`.
 */
export function toHeaders(message: Message, source: string): Record<string, string> {
  const headers = toBareHeaders(message, source);
  headers['content-type'] = message.contentType;
  if (message.key !== undefined) headers.ce_partitionkey = message.key;
  return headers;
}

/**
 * As `toHeaders`, without key and content type: Kafka has a place for the key, AMQP for the content type. Each header costs the clients
 * a microsecond.
 */
export function toBareHeaders(message: Message, source: string): Record<string, string> {
  // Last, so that a header of the caller's can't overwrite them.
  return { ...message.headers, ce_specversion: '1.0', ce_id: message.id, ce_type: message.topic, ce_source: source };
}

/** The message that arrived with these headers. `place`, where it was read, is its id if the sender set none. */
export function fromHeaders(headers: Readonly<Record<string, string>>, topic: string, place: string, body: Uint8Array): Message {
  const { ce_id: id, ce_partitionkey: key, 'content-type': contentType, ce_specversion: _v, ce_type: _t, ce_source: _s, ...own } = headers;
  return {
    // An empty id would make one message of all.
    id: id === undefined || id === '' ? place : id,
    topic,
    ...(key === undefined ? {} : { key }),
    headers: own,
    body,
    contentType: contentType ?? 'application/octet-stream',
  };
}
