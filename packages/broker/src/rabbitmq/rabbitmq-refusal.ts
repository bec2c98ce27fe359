import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** AMQP's reply codes of errors that the same request gets each time: no permission, no such thing, a thing that exists in another shape. */
const codes = { 403: 'ACCESS_REFUSED', 404: 'NOT_FOUND', 406: 'PRECONDITION_FAILED', 530: 'NOT_ALLOWED' } as const;

/** The reply code of an error of amqplib, which has a `code` only if a channel was closed; during the handshake it is in the message. */
export function replyCode(error: unknown): number | undefined {
  const { code, message = '' } = (error ?? {}) as { code?: unknown; message?: string };
  if (typeof code === 'number') return code;
  const named = Object.entries(codes).find(([, name]) => message.replaceAll('-', '_').includes(name));
  return named && Number(named[0]);
}

/**
 * Returns whether a person must act: wrong credentials, no permission, a queue that exists in another shape. A missing virtual host is not known:
 * amqplib keeps the reason for a connection that is closed while it opens to itself.
 */
export function isPermanent(error: unknown): boolean {
  const { message = '' } = (error ?? {}) as { message?: string };
  // A user or a virtual host may have no more than so many connections at a time.
  if (/limit/.test(message)) return false;
  if (/^Expected amqp: or amqps:/.test(message)) return true;
  const code = replyCode(error);
  return code !== undefined && code in codes;
}

/** The result of all messages when a connection or channel could not be opened. */
export function rabbitmqRefusal(error: unknown): PublishResult {
  return refused(isPermanent(error) ? 'fatal' : 'retriable', error);
}

/** The result of messages whose exchange was refused, or of a message that was refused when it was alone on its channel. */
export function messageRefusal(error: unknown): PublishResult {
  const code = replyCode(error);
  // amqplib throws these when it can't encode a name or the headers: they are too long.
  const notEncodable = error instanceof TypeError || error instanceof RangeError;
  return code === 404 || code === 406 || notEncodable ? refused('poison', error) : rabbitmqRefusal(error);
}
