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
  unfitText,
  uuidv7,
} from '@holdfast/core';
import { InvalidPayloadError, UnknownTopicError } from '../errors.ts';
import { laneCount } from '../table/lanes.ts';
import type { Topic, Topics } from './topic.ts';

/** Options of a put. */
export interface PutOptions {
  /**
   * Names the message for good, and makes the put idempotent: a second one with this id does nothing, for 7 days or `idWindow`, also
   * after the first was published and deleted. Default: a new UUIDv7. At most 191 characters.
   */
  readonly id?: string;
  /** Instead of the topic's key. */
  readonly key?: string;
  /** Not published before this much later. */
  readonly delay?: Duration;
  /** Not published before this time. */
  readonly at?: Date;
  /** Names are lower-case tokens; values are text without line breaks. Those that start with `ce_` are ours. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Business key under which a timeline is drawn across tables. */
  readonly subject?: string;
  /** Whose it is. Default `''`. */
  readonly tenant?: string;
}

/** A message as it is written. */
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
  /** How long from now, or when. */
  readonly due: { readonly delayMs: number } | { readonly atMs: number } | undefined;
  readonly order: 'causal' | 'commit';
}

export interface MessageLimits {
  readonly maxBodyBytes: number;
  /** The lane of a message without a key. */
  readonly freeLane: () => number;
}

const token = /^[a-z0-9!#$%&'*+.^_`|~-]{1,100}$/;

/**
 * Checks a payload and makes it a message.
 * @throws UnknownTopicError, InvalidPayloadError, InvalidArgumentError
 */
export async function newMessage(
  topics: Topics,
  limits: MessageLimits,
  name: string,
  payload: unknown,
  options: PutOptions = {},
): Promise<NewMessage> {
  const topic = Object.hasOwn(topics, name) ? topics[name] : undefined;
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
  let result = topic.schema['~standard'].validate(payload);
  if (result instanceof Promise) result = await result;
  if (result.issues) throw new InvalidPayloadError(`The payload of ${name} does not fit its schema: ${describeIssues(result.issues)}.`);
  // What was given is sent, not what the schema made of it: whoever receives it parses it again.
  const json = jsonText(payload, maxBytes, 'maxBodyBytes');
  if ('problem' in json) throw new InvalidPayloadError(`The payload of ${name} ${json.problem}`, json.cause);
  return { body: Buffer.from(json.text), value: result.value };
}

function headerText(headers: PutOptions['headers']): string | null {
  const all: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (!token.test(name) || name.startsWith('ce_') || name === 'content-type')
      throw new InvalidArgumentError(
        `The header ${JSON.stringify(cleanText(name)).slice(0, 60)} has a bad name; use a lower-case token that does not start with ce_.`,
      );
    if (typeof value !== 'string' || /[\r\n]/.test(value) || unfitText(value) !== undefined || value.length > 8_000)
      throw new InvalidArgumentError(
        `The header ${name} has a bad value; give text without line breaks, NUL or lone surrogates, at most 8,000 characters.`,
      );
    all[name] = value;
  }
  const traceparent = activeTraceparent();
  if (traceparent !== null && all.traceparent === undefined) all.traceparent = traceparent;
  return Object.keys(all).length === 0 ? null : JSON.stringify(all);
}
