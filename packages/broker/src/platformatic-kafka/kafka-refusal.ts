import { fatalErrors, poisonErrors, unknownTopicError } from '../kafka-wire/refusals.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

interface KafkaError {
  readonly apiId?: unknown;
  readonly code?: unknown;
  readonly message?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

/** Returns whether Kafka does not know the topic: it does not exist, or not yet. The client has no code for it when it asks for metadata. */
export function isUnknownTopic(error: unknown): boolean {
  return [...walk(error)].some(({ apiId, message }) => apiId === unknownTopicError || /^Unknown topic /.test(message ?? ''));
}

/** The result of messages whose publish failed with an error of the client. Errors are nested, one per broker and partition. */
export function kafkaRefusal(error: unknown): PublishResult {
  const all = [...walk(error)];
  if (all.some(({ apiId, code }) => fatalErrors.has(String(apiId)) || code === 'PLT_KFK_AUTHENTICATION')) return refused('fatal', error);
  if (all.some(({ apiId }) => poisonErrors.has(String(apiId)))) return refused('poison', error);
  return refused('retriable', error);
}

function* walk(error: unknown): Generator<KafkaError> {
  if (typeof error !== 'object' || error === null) return;
  const one = error as KafkaError;
  yield one;
  for (const inner of one.errors ?? []) yield* walk(inner);
  yield* walk(one.cause);
}
