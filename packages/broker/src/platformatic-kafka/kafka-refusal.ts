import { refused } from '../publish-results.ts';
import type { PublishResult } from '../publisher.ts';

const poison = new Set([
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'INVALID_TOPIC_EXCEPTION',
  'INVALID_RECORD',
  'INVALID_TIMESTAMP',
  'UNKNOWN_TOPIC_OR_PARTITION',
]);
const fatal = new Set([
  'SASL_AUTHENTICATION_FAILED',
  'ILLEGAL_SASL_STATE',
  'UNSUPPORTED_SASL_MECHANISM',
  'TOPIC_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
]);

interface KafkaError {
  readonly apiId?: unknown;
  readonly code?: unknown;
  readonly message?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

/** What an error of the client says of the messages that were being sent; they come nested, one per broker and partition. */
export function kafkaRefusal(error: unknown): PublishResult {
  const all = [...walk(error)];
  if (all.some(({ apiId, code }) => fatal.has(String(apiId)) || code === 'PLT_KFK_AUTHENTICATION')) return refused('fatal', error);
  // An unknown topic has no code of its own.
  if (all.some(({ apiId, message }) => poison.has(String(apiId)) || /^Unknown topic /.test(message ?? ''))) return refused('poison', error);
  return refused('retriable', error);
}

function* walk(error: unknown): Generator<KafkaError> {
  if (typeof error !== 'object' || error === null) return;
  const one = error as KafkaError;
  yield one;
  for (const inner of one.errors ?? []) yield* walk(inner);
  yield* walk(one.cause);
}
