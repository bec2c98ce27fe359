import type { Message } from '@holdfast/broker';

/** A message of the topic `orders`, whose body is its id. */
export function messageOf(id: string, extra: Partial<Message> = {}): Message {
  return {
    id,
    topic: 'orders',
    headers: { ce_time: new Date().toISOString() },
    body: Buffer.from(id),
    contentType: 'text/plain',
    ...extra,
  };
}
