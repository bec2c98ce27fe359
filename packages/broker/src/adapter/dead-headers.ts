import type { DeadLetter } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';

const reasonHeader = 'x-dead-reason';
const groupHeader = 'x-dead-group';
const redriveHeader = 'x-holdfast-redrive';

/** Where groups share a topic's dead letters, each says by its headers whose it is and why. */
export function asDead(message: Message, group: string, reason: string): Message {
  // A header is one line.
  return {
    ...plain(message),
    headers: { ...plain(message).headers, [reasonHeader]: reason.replace(/[\r\n]+/g, ' '), [groupHeader]: group },
  };
}

/** Returns whether it is the group's dead letter. Those of earlier versions name no group on Kafka, and count for each. */
export function isDeadFor({ headers }: Message, group: string): boolean {
  return headers[groupHeader] === undefined || headers[groupHeader] === group;
}

/** The dead letter that was stored by {@link asDead}. */
export function deadLetterOf(message: Message, topic: string): DeadLetter {
  return { message: { ...plain(message), topic }, reason: message.headers[reasonHeader] ?? '' };
}

/** A dead letter that is published again. All groups of the topic receive it; those of another name skip it. */
export function asRedriven(message: Message, topic: string, group: string): Message {
  return { ...message, topic, headers: { ...plain(message).headers, [redriveHeader]: group } };
}

/** The message for a group's handler, without headers of ours; `undefined` if it was redriven for another group. */
export function forGroup(message: Message, group: string): Message | undefined {
  const target = message.headers[redriveHeader];
  if (target === undefined) return message;
  return target === group ? plain(message) : undefined;
}

function plain(message: Message): Message {
  const { [reasonHeader]: _reason, [groupHeader]: _group, [redriveHeader]: _redrive, ...headers } = message.headers;
  return { ...message, headers };
}
