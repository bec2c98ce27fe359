import type { Logger } from '@holdfast/core';
import type { Publisher } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict } from '../port/subscriber.ts';

export interface HandleRecordOptions {
  readonly handler: (delivery: Delivery) => Promise<DeliveryVerdict>;
  /** Publishes rejected messages to `<topic>.dead`. */
  readonly deadLetters: Publisher;
  /** Pause in ms before a record whose handler threw is delivered again. */
  readonly retryMs: number;
  readonly logger: Logger;
}

/**
 * Runs the handler on one delivery. A throw counts as `retry`. A rejected message is settled only after its dead letter was acked;
 * until then it is delivered again.
 */
export async function handleRecord(
  delivery: Delivery,
  { handler, deadLetters, retryMs, logger }: HandleRecordOptions,
): Promise<DeliveryVerdict> {
  const { id, topic } = delivery.message;
  let verdict: DeliveryVerdict;
  try {
    verdict = await handler(delivery);
  } catch (err) {
    logger.warn({ err, id, topic }, 'a handler threw; the message is delivered again');
    verdict = { outcome: 'retry', afterMs: retryMs };
  }
  if (verdict.outcome !== 'reject') return verdict;
  const dead = `${topic}.dead`;
  const reason = verdict.reason.replace(/[\r\n]/g, ' ');
  const [result] = await deadLetters.publish([
    { ...delivery.message, topic: dead, headers: { ...delivery.message.headers, 'x-dead-reason': reason } },
  ]);
  if (result?.outcome === 'acked') return verdict;
  logger.error(
    { id, topic: dead, result },
    'a rejected message could not be published to the dead-letter topic; it is delivered again. Does the topic exist?',
  );
  return { outcome: 'retry', afterMs: 5_000 };
}
