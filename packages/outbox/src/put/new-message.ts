import {
  activeTraceparent,
  cleanText,
  type Duration,
  describeIssues,
  durationMs,
  InvalidArgumentError,
  jsonText,
  keyText,
  laneOf,
  lostInJson,
  requireKnown,
  unfitText,
  uuidv7,
} from '@holdfast/core';
import { InvalidPayloadError, UnknownTopicError } from '../errors.ts';
import { laneCount } from '../table/lanes.ts';
import type { Topic, Topics } from './topic.ts';

/** Options of a put. */
export interface PutOptions {
  /**
   * Id of the message, which makes the put idempotent: a second put with the same id does nothing for 7 days, or for `idWindow`, even
   * if the first message was published and deleted. At most 191 characters. Default: a new UUIDv7.
   */
  readonly id?: string;
  /** Replaces the key that the topic gives the message. At most 191 characters. Default: the topic's. */
  readonly key?: string;
  /** Publishes the message after this time at the earliest. Not together with `at`. Default: at once. */
  readonly delay?: Duration;
  /** Publishes the message at this time at the earliest. Not together with `delay`. Default: at once. */
  readonly at?: Date;
  /**
   * Headers that travel with the message. Names are lower-case tokens; values are text without line breaks, at most 8,000 characters.
   * Names that start with `ce_` are reserved. Default: the active `traceparent`, if any.
   */
  readonly headers?: Readonly<Record<string, string>>;
  /** Business key, such as the id of an order, that finds everything about it across tables. It travels as `ce_subject`. At most 191 characters. Default none. */
  readonly subject?: string;
  /** Tenant that the message belongs to. At most 100 characters. Default `''`. */
  readonly tenant?: string;
}

const optionNames = ['id', 'key', 'delay', 'at', 'headers', 'subject', 'tenant'];

/** A message that is ready to be written. */
export interface NewMessage {
  readonly topic: string;
  readonly message_key: string | null;
  readonly message_id: string;
  readonly headers: string | null;
  readonly body: Uint8Array;
  readonly content_type: string;
  readonly tenant: string;
  readonly subject: string | null;
  readonly lane: number;
  /** The delay from now, or the time, of a delayed message. */
  readonly due: { readonly delayMs: number } | { readonly atMs: number } | undefined;
  readonly order: 'causal' | 'commit';
}

/** The limits of a message, and the lane of one without a key. */
export interface MessageLimits {
  readonly maxBodyBytes: number;
  /** Returns the lane of a message without a key. */
  readonly freeLane: () => number;
}

const token = /^[a-z0-9!#$%&'*+.^_`|~-]{1,100}$/;

/**
 * Checks a payload and makes a message of it.
 * @throws UnknownTopicError, InvalidPayloadError, InvalidArgumentError
 */
export async function newMessage(
  topics: Topics,
  limits: MessageLimits,
  name: string,
  payload: unknown,
  options: PutOptions = {},
): Promise<NewMessage> {
  requireKnown('put', options, optionNames);
  const topic = typeof name === 'string' && Object.hasOwn(topics, name) ? topics[name] : undefined;
  if (!topic) throw new UnknownTopicError(name, Object.keys(topics));
  const { body, value } = await encode(topic, name, payload, limits.maxBodyBytes);
  const key = options.key ?? topic.key?.(value);
  const messageKey = key === undefined ? null : keyText('key', key);
  if (options.delay !== undefined && options.at !== undefined) throw new InvalidArgumentError('delay and at are both given; give one.');
  return {
    topic: name,
    message_key: messageKey,
    message_id: options.id === undefined ? uuidv7() : keyText('id', options.id),
    headers: headerText(options.headers),
    body,
    content_type: topic.contentType,
    tenant: options.tenant === undefined ? '' : keyText('tenant', options.tenant, 100),
    subject: options.subject === undefined ? null : keyText('subject', options.subject),
    lane: messageKey === null ? limits.freeLane() : laneOf(messageKey, laneCount),
    due: dueOf(options),
    order: topic.order,
  };
}

function dueOf({ delay, at }: PutOptions): NewMessage['due'] {
  if (at !== undefined) {
    if (!(at instanceof Date) || Number.isNaN(at.getTime())) throw new InvalidArgumentError('at is not a valid Date.');
    return { atMs: at.getTime() };
  }
  if (delay === undefined) return undefined;
  const delayMs = durationMs(delay, 'delay');
  return delayMs === 0 ? undefined : { delayMs };
}

async function encode(
  topic: Topic<unknown, unknown>,
  name: string,
  payload: unknown,
  maxBytes: number,
): Promise<{ body: Uint8Array; value: unknown }> {
  if (!topic.schema) {
    if (!(payload instanceof Uint8Array))
      throw new InvalidPayloadError(`The payload of ${name} is ${typeof payload}; a bytes topic takes a Uint8Array.`);
    if (payload.byteLength > maxBytes)
      throw new InvalidPayloadError(
        `The payload of ${name} is ${payload.byteLength} bytes; the limit is ${maxBytes} (maxBodyBytes). Store the data elsewhere and pass its key.`,
      );
    return { body: payload, value: payload };
  }
  const { schema } = topic;
  const parsed = async (given: unknown, as: string): Promise<unknown> => {
    let result = schema['~standard'].validate(given);
    if (result instanceof Promise) result = await result;
    if (result.issues)
      throw new InvalidPayloadError(`The payload of ${name}${as} does not fit its schema: ${describeIssues(result.issues)}.`);
    return result.value;
  };
  const value = await parsed(payload, '');
  // The payload is sent as it was given, not as the schema transformed it: the receiver parses it again.
  const json = jsonText(payload, maxBytes, 'maxBodyBytes');
  if ('problem' in json) throw new InvalidPayloadError(`The payload of ${name} ${json.problem}`, json.cause);
  if (lostInJson(payload, 'payload', 'read') !== undefined)
    await parsed(JSON.parse(json.text), ', which is sent as JSON (a Date as text, a Map as {}),');
  return { body: Buffer.from(json.text), value };
}

function headerText(headers: PutOptions['headers']): string | null {
  const all: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (!token.test(name) || name.startsWith('ce_') || name === 'content-type')
      throw new InvalidArgumentError(
        `${JSON.stringify(cleanText(name)).slice(0, 60)} is not a valid header name; use a lower-case token that does not start with ce_.`,
      );
    if (typeof value !== 'string' || /[\r\n]/.test(value) || unfitText(value) !== undefined || value.length > 8_000)
      throw new InvalidArgumentError(
        `The value of the header ${name} is not valid; give text without line breaks, NUL or lone surrogates, at most 8,000 characters.`,
      );
    all[name] = value;
  }
  const traceparent = activeTraceparent();
  if (traceparent !== null && all.traceparent === undefined) all.traceparent = traceparent;
  return Object.keys(all).length === 0 ? null : JSON.stringify(all);
}
