import type { Message } from '@holdfast/broker';

/** When a message was first put, as its `ce_time` says. */
export function firstPutAt(message: Message): number | undefined {
  const time = Date.parse(message.headers.ce_time ?? '');
  return Number.isNaN(time) ? undefined : time;
}
