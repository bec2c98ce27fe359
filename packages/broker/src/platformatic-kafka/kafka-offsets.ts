import { Admin, type BaseOptions, Consumer, ListOffsetTimestamps } from '@platformatic/kafka';
import type { KafkaOffsets, Unread } from '../kafka-wire/kafka-dead-letters.ts';
import { isUnknownTopic } from './kafka-refusal.ts';

/** Reads offsets through @platformatic/kafka. */
export class PlatformaticOffsets implements KafkaOffsets {
  readonly #base: BaseOptions;

  constructor(base: BaseOptions) {
    this.#base = base;
  }

  async unread(topic: string, group: string): Promise<readonly Unread[]> {
    // It asks only, and does not join the group.
    const consumer = new Consumer({ ...this.#base, groupId: group, autocreateTopics: false, retries: 3, retryDelay: 100 });
    try {
      const ends = (await consumer.listOffsets({ topics: [topic], timestamp: ListOffsetTimestamps.LATEST })).get(topic) ?? [];
      const starts = (await consumer.listOffsets({ topics: [topic], timestamp: ListOffsetTimestamps.EARLIEST })).get(topic) ?? [];
      const partitions = [...ends.keys()];
      const committed = (await consumer.listCommittedOffsets({ topics: [{ topic, partitions }] })).get(topic) ?? [];
      return partitions.map((partition) => {
        const [next, low] = [committed[partition] ?? -1n, starts[partition] ?? 0n];
        return { partition, from: next > low ? next : low, to: ends[partition] ?? 0n };
      });
    } catch (error) {
      if (isUnknownTopic(error)) return [];
      throw error;
    } finally {
      await consumer.close(true);
    }
  }

  async deleteGroup(group: string): Promise<void> {
    const admin = new Admin(this.#base);
    try {
      await admin.deleteGroups({ groups: [group] });
    } finally {
      await admin.close();
    }
  }
}
