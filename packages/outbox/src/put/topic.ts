import { InvalidArgumentError } from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';

/** What orders the messages of a topic, and how they are sent. */
export interface TopicOptions<Output> {
  /** Messages of one key are published in order. Without it they have no order. */
  readonly key?: (payload: Output) => string;
  /**
   * What "in order" means for messages of one key that are put by transactions at the same time.
   *
   * - `causal` (default): in the order of the puts, which is right when the application locks what the key stands for before it
   *   puts (the row of the order, the account). Costs nothing.
   * - `commit`: in the order of the commits, without such a lock; puts of a key wait for each other's commit.
   */
  readonly order?: 'causal' | 'commit';
}

/** A topic with its defaults filled in. */
export interface Topic<Input, Output> {
  readonly schema: StandardSchemaV1<Input, Output> | undefined;
  /** What a message is ordered by: messages of one key are published in order. */
  readonly key: ((payload: Output) => string) | undefined;
  readonly order: 'causal' | 'commit';
  readonly contentType: string;
}

/**
 * Declares a topic of JSON messages: the schema of their payload (zod, valibot, arktype, or any Standard Schema) and their key.
 * @throws InvalidArgumentError
 */
export function topic<Input, Output>(schema: StandardSchemaV1<Input, Output>, options: TopicOptions<Output> = {}): Topic<Input, Output> {
  if (typeof schema?.['~standard']?.validate !== 'function')
    throw new InvalidArgumentError('topic needs a Standard Schema (zod, valibot, arktype) as its first argument; bytesTopic takes none.');
  return { schema, key: options.key, order: options.order ?? 'causal', contentType: 'application/json' };
}

/** Declares a topic of messages that are bytes already: Protobuf, Avro, images. */
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
/** What `put` takes for a topic. */
export type PayloadInput<T> = T extends Topic<infer Input, infer _Output> ? Input : never;

/** So that neither broker nor order name can misread it. */
const topicName = /^[A-Za-z0-9._-]{1,191}$/;

/** Checks the names of topics. @throws InvalidArgumentError */
export function checkTopics(topics: Topics): void {
  if (typeof topics !== 'object' || topics === null || Object.keys(topics).length === 0)
    throw new InvalidArgumentError('topics is missing or empty; pass at least one, as in topics: { "order.paid": topic(schema) }.');
  for (const name of Object.keys(topics)) {
    if (!topicName.test(name))
      throw new InvalidArgumentError(
        `The topic ${JSON.stringify(name)} has a name that not every broker takes; use letters, digits, '.', '_' and '-', at most 191.`,
      );
  }
}
