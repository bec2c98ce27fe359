import type { Logger } from '@holdfast/core';
import { asDead } from '../adapter/dead-headers.ts';
import type { Handle, RawDelivery } from '../adapter/handling.ts';
import type { Publisher } from '../port/publisher.ts';
import { type DeliveryVerdict, retry } from '../port/subscriber.ts';

export interface HandleRecordOptions {
  readonly handle: Handle;
  /** Publishes rejected messages to `<topic>.dead`. */
  readonly deadLetters: Publisher;
  /** The name of the group, which goes with its dead letters. */
  readonly group: string;
  readonly logger: Logger;
}

/** Runs the handler on one delivery. A rejected message is settled only after its dead letter was acked; until then it is delivered again. */
export async function handleRecord(
  delivery: RawDelivery,
  { handle, deadLetters, group, logger }: HandleRecordOptions,
): Promise<DeliveryVerdict> {
  const { id, topic } = delivery.message;
  const verdict = await handle(delivery);
  if (verdict.outcome !== 'reject') return verdict;
  const dead = `${topic}.dead`;
  const [result] = await deadLetters.publish([{ ...asDead(delivery.message, group, verdict.reason), topic: dead }]);
  if (result?.outcome === 'acked') return verdict;
  logger.error(
    { id, topic: dead, result },
    'a rejected message could not be published to the dead-letter topic; it is delivered again. Does the topic exist?',
  );
  return retry(5_000);
}
