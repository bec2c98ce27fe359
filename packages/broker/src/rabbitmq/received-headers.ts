import type { MessageProperties } from 'amqplib';

/** Marks a copy that {@link QueueWriter} wrote, so that a returned one is known. */
export const copyHeader = 'x-holdfast-copy';
/** The deliveries of a retried message before this one. */
export const attemptHeader = 'x-holdfast-attempt';
/** What is left of a delay, in ms, when its part in a delay queue is over. */
export const delayHeader = 'x-holdfast-delay';

/** Headers that the adapter or the server added on the message's way through delay queues. */
const added = /^x-(holdfast-(copy|attempt|delay)|death|(first|last)-death-.*|delivery-count|acquired-count)$/;

/** The headers of a message that arrived, with its content type. */
export function messageHeaders({ headers, contentType }: MessageProperties): Record<string, string> {
  const plain: Record<string, string> = {};
  for (const [name, value] of Object.entries(withoutAdded(headers))) if (typeof value === 'string') plain[name] = value;
  plain['content-type'] ??= (contentType as string | undefined) ?? 'application/octet-stream';
  return plain;
}

/** The headers with which the message was published. */
export function withoutAdded(headers: Readonly<Record<string, unknown>> | undefined): Record<string, unknown> {
  return Object.fromEntries(Object.entries(headers ?? {}).filter(([name]) => !added.test(name)));
}
