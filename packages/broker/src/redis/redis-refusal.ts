import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** The result of a message for which Redis answered with an error. */
export function redisRefusal(error: Error): PublishResult {
  const code = /^[A-Z]+/.exec(error.message)?.[0] ?? '';
  if (['NOAUTH', 'WRONGPASS', 'NOPERM'].includes(code)) return refused('fatal', error);
  if (['OOM', 'MISCONF'].includes(code)) return refused('backpressure', error);
  if (code === 'WRONGTYPE') return refused('poison', error);
  return refused('retriable', error);
}
