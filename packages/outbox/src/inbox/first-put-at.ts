import type { Message } from '@holdfast/broker';

/** Time of a message's first put in epoch ms, from its header `ce_time`. */
export function firstPutAt(message: Message): number | undefined {
  const time = Date.parse(message.headers.ce_time ?? '');
  return Number.isNaN(time) ? undefined : time;
}
