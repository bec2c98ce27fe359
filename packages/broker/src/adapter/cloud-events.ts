import type { Message } from '../port/message.ts';

/**
 * Metadata travels as CloudEvents 1.0 in binary mode (`ce_id`, `ce_type`, `ce_source`), so that consumers in other languages
 * need nothing of ours. The key is the extension `ce_partitionkey`.
 */
export function toHeaders(message: Message, source: string): Record<string, string> {
  const headers = toBareHeaders(message, source);
  headers['content-type'] = message.contentType;
  if (message.key !== undefined) headers.ce_partitionkey = message.key;
  return headers;
}

/** Without what the protocol has a place for: the key in Kafka, the content type in AMQP. Each header costs the clients a microsecond. */
export function toBareHeaders(message: Message, source: string): Record<string, string> {
  // Ours are not to be overwritten.
  return { ...message.headers, ce_specversion: '1.0', ce_id: message.id, ce_type: message.topic, ce_source: source };
}

/** The message that came with these headers. One from elsewhere, without an id, is named by where it was read. */
export function fromHeaders(headers: Readonly<Record<string, string>>, topic: string, place: string, body: Uint8Array): Message {
  const { ce_id: id, ce_partitionkey: key, 'content-type': contentType, ce_specversion: _v, ce_type: _t, ce_source: _s, ...own } = headers;
  return {
    id: id ?? place,
    topic,
    ...(key === undefined ? {} : { key }),
    headers: own,
    body,
    contentType: contentType ?? 'application/octet-stream',
  };
}
