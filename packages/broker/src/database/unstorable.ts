import { unfitText } from '@holdfast/core';
import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** The sizes of the columns, in characters. */
const limits = { id: 191, topic: 191, key: 191, contentType: 100 } as const;

/**
 * The result of a message that the columns can't hold; `undefined` for one that fits. Without this check the whole batch would fail, for
 * ever: PostgreSQL and MySQL refuse the insert.
 */
export function unstorable(message: Message): PublishResult | undefined {
  for (const [name, limit] of Object.entries(limits)) {
    const text = message[name as keyof typeof limits];
    if (text === undefined) continue;
    if (text.length > limit && [...text].length > limit)
      return refused('poison', new Error(`The ${name} has ${[...text].length} characters; the limit is ${limit}.`));
    const unfit = unfitText(text);
    if (unfit) return refused('poison', new Error(`The ${name} holds ${unfit}; remove it.`));
  }
  return undefined;
}
