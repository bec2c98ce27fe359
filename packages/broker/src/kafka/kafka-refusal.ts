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
  readonly name?: string;
  readonly type?: string;
  readonly message?: string;
  readonly cause?: unknown;
  readonly originalError?: unknown;
}

/** What an error of kafkajs says of the messages that were being sent. The innermost cause decides. */
export function kafkaRefusal(error: unknown): PublishResult {
  for (let at = error as KafkaError | undefined; at; at = (at.cause ?? at.originalError) as KafkaError | undefined) {
    if (at.type !== undefined && poison.has(at.type)) return refused('poison', error);
    if ((at.type !== undefined && fatal.has(at.type)) || at.name === 'KafkaJSSASLAuthenticationError') return refused('fatal', error);
    if (at.name === 'KafkaJSNonRetriableError' && /topic/i.test(at.message ?? '') && /invalid/i.test(at.message ?? ''))
      return refused('poison', error);
  }
  return refused('retriable', error);
}
