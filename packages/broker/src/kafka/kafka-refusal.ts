import { fatalErrors, poisonErrors, unknownTopicError } from '../kafka-wire/refusals.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

interface KafkaError {
  readonly name?: string;
  readonly type?: string;
  readonly message?: string;
  readonly cause?: unknown;
  readonly originalError?: unknown;
}

/** Returns whether Kafka does not know the topic: it does not exist, or not yet. */
export function isUnknownTopic(error: unknown): boolean {
  return [...walk(error)].some(({ type }) => type === unknownTopicError);
}

/** The result of messages whose publish failed with an error of kafkajs. Errors are nested; the outermost known one decides. */
export function kafkaRefusal(error: unknown): PublishResult {
  for (const at of walk(error)) {
    if (at.type !== undefined && poisonErrors.has(at.type)) return refused('poison', error);
    if ((at.type !== undefined && fatalErrors.has(at.type)) || at.name === 'KafkaJSSASLAuthenticationError') return refused('fatal', error);
    if (at.name === 'KafkaJSNonRetriableError' && /topic/i.test(at.message ?? '') && /invalid/i.test(at.message ?? ''))
      return refused('poison', error);
  }
  return refused('retriable', error);
}

function* walk(error: unknown): Generator<KafkaError> {
  for (let at = error as KafkaError | undefined; at; at = (at.cause ?? at.originalError) as KafkaError | undefined) yield at;
}
