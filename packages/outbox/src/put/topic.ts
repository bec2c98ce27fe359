import { InvalidArgumentError } from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';

/** Options of a topic: how its messages are ordered. */
export interface TopicOptions<Output> {
  /** Returns the key of a message. Messages of one key are published in order. Default none: messages have no order. */
  readonly key?: (payload: Output) => string;
  /**
   * The order of messages of one key that are put by transactions at the same time.
   *
   * - `causal` (default): the order of the puts. It is the right order if the application locks the thing that the key stands for (the
   *   row of the order, the account) before it puts. It costs nothing.
   * - `commit`: the order of the commits, without such a lock. A put waits until earlier transactions with puts of the same key have
   *   ended. It costs one row lock per put.
   */
  readonly order?: 'causal' | 'commit';
}

/** A topic with its defaults filled in. */
export interface Topic<Input, Output> {
  readonly schema: StandardSchemaV1<Input, Output> | undefined;
  /** Returns the key of a message. Messages of one key are published in order. */
  readonly key: ((payload: Output) => string) | undefined;
  readonly order: 'causal' | 'commit';
  readonly contentType: string;
}

/**
 * Declares a topic of JSON messages. `schema` checks their payload; it is a Standard Schema (zod, valibot, arktype and others).
 * @throws InvalidArgumentError
 */
export function topic<Input, Output>(schema: StandardSchemaV1<Input, Output>, options: TopicOptions<Output> = {}): Topic<Input, Output> {
  if (typeof schema?.['~standard']?.validate !== 'function')
    throw new InvalidArgumentError('topic needs a Standard Schema (zod, valibot, arktype) as its first argument; bytesTopic takes none.');
  return { schema, key: options.key, order: options.order ?? 'causal', contentType: 'application/json' };
}

/** Declares a topic whose payloads are bytes: Protobuf, Avro, images. */
export function bytesTopic(options: TopicOptions<Uint8Array> & { readonly contentType?: string } = {}): Topic<Uint8Array, Uint8Array> {
  return {
    schema: undefined,
    key: options.key,
    order: options.order ?? 'causal',
    contentType: options.contentType ?? 'application/octet-stream',
  };
}

/** Topics by name. */
// biome-ignore lint/suspicious/noExplicitAny: a record of topics with different payloads
export type Topics = Readonly<Record<string, Topic<any, any>>>;
/** The payload that `put` takes for a topic. */
export type PayloadInput<T> = T extends Topic<infer Input, infer _Output> ? Input : never;

/** Characters that every broker accepts. The name of a line (`orderName`) needs topics without spaces and `#`. */
const topicName = /^[A-Za-z0-9._-]{1,191}$/;

/** Checks the names of topics. @throws InvalidArgumentError */
export function checkTopics(topics: Topics): void {
  if (typeof topics !== 'object' || topics === null || Object.keys(topics).length === 0)
    throw new InvalidArgumentError('topics is missing or empty; pass at least one, as in topics: { "order.paid": topic(schema) }.');
  for (const name of Object.keys(topics)) {
    if (!topicName.test(name))
      throw new InvalidArgumentError(
        `The topic ${JSON.stringify(name)} has a name that not every broker accepts; use letters, digits, '.', '_' and '-', at most 191.`,
      );
  }
}
