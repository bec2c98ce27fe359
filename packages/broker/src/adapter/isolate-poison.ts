import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/**
 * Publishes a batch of which a broker said only that some message in it is poison: one half, then the other, until the poison is
 * alone. After a message that was neither acked nor poison, later messages of its key are not sent.
 */
export async function isolatePoison(
  batch: readonly Message[],
  send: (part: readonly Message[]) => Promise<readonly PublishResult[]>,
): Promise<PublishResult[]> {
  const middle = batch.length >> 1;
  const first = await send(batch.slice(0, middle));
  const held = new Set<string>();
  first.forEach((result, i) => {
    const message = batch[i];
    if (result.outcome !== 'acked' && result.outcome !== 'poison' && message?.key !== undefined)
      held.add(`${message.topic} ${message.key}`);
  });
  const rest = batch.slice(middle);
  const free = rest.filter(({ topic, key }) => key === undefined || !held.has(`${topic} ${key}`));
  const sent = free.length > 0 ? await send(free) : [];
  const results = new Map(free.map((message, i) => [message, sent[i]]));
  const notSent = refused('retriable', new Error('An earlier message of its key was not acked.'));
  return [...first, ...rest.map((message) => results.get(message) ?? notSent)];
}
