import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** The result of a message whose body is larger than the limit; `undefined` for one that fits. */
export function oversized({ body }: Message, maxMessageBytes: number): PublishResult | undefined {
  if (body.byteLength <= maxMessageBytes) return undefined;
  return refused('poison', new Error(`The body has ${body.byteLength} bytes; the limit is ${maxMessageBytes} (maxMessageBytes).`));
}
