import { fatalErrors, poisonErrors } from '../kafka-wire/refusals.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

interface KafkaError {
  readonly apiId?: unknown;
  readonly code?: unknown;
  readonly message?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

/** The result of messages whose publish failed with an error of the client. Errors are nested, one per broker and partition. */
export function kafkaRefusal(error: unknown): PublishResult {
  const all = [...walk(error)];
  if (all.some(({ apiId, code }) => fatalErrors.has(String(apiId)) || code === 'PLT_KFK_AUTHENTICATION')) return refused('fatal', error);
  // The client has no code for an unknown topic.
  if (all.some(({ apiId, message }) => poisonErrors.has(String(apiId)) || /^Unknown topic /.test(message ?? '')))
    return refused('poison', error);
  return refused('retriable', error);
}

function* walk(error: unknown): Generator<KafkaError> {
  if (typeof error !== 'object' || error === null) return;
  const one = error as KafkaError;
  yield one;
  for (const inner of one.errors ?? []) yield* walk(inner);
  yield* walk(one.cause);
}
