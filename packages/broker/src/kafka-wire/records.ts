import { fromHeaders } from '../adapter/cloud-events.ts';
import type { Message } from '../port/message.ts';
import type { PublishResult } from '../port/publisher.ts';

/** A partition of a topic. */
export interface Partition {
  readonly topic: string;
  readonly partition: number;
}

/**
 * The results of a batch that was written: a record's offset is the base offset of its partition plus the number of the batch's
 * records before it there. Offsets stay far below 2^53: a partition would have to take a million a second for 285 years.
 */
export function ackedRecords(
  records: readonly Partition[],
  bases: readonly (Partition & { readonly baseOffset: number })[],
): PublishResult[] {
  const next = new Map<string, Map<number, number>>();
  for (const { topic, partition, baseOffset } of bases) {
    const partitions = next.get(topic) ?? new Map<number, number>();
    next.set(topic, partitions);
    partitions.set(partition, baseOffset);
  }
  return records.map(({ topic, partition }) => {
    const partitions = next.get(topic);
    const offset = partitions?.get(partition) ?? 0;
    partitions?.set(partition, offset + 1);
    return { outcome: 'acked', at: { topic, partition, offset } };
  });
}

/** The message of a record. Kafka has a place for the key, so this library sends no header for it. */
export function fromRecord(
  { topic, partition, offset }: Partition & { readonly offset: string },
  headers: Readonly<Record<string, string>>,
  key: Buffer | null | undefined,
  value: Buffer | null | undefined,
): Message {
  const message = fromHeaders(headers, topic, `${topic}/${partition}/${offset}`, value ?? new Uint8Array());
  return message.key !== undefined || !key ? message : { ...message, key: key.toString() };
}
