import type { Admin, Kafka } from 'kafkajs';
import type { KafkaOffsets, Unread } from '../kafka-wire/kafka-dead-letters.ts';
import { isUnknownTopic } from './kafka-refusal.ts';

/** Reads offsets through kafkajs. */
export class KafkajsOffsets implements KafkaOffsets {
  readonly #client: Kafka;

  constructor(client: Kafka) {
    this.#client = client;
  }

  unread(topic: string, group: string): Promise<readonly Unread[]> {
    return this.#asking(async (admin) => {
      const ends = await admin.fetchTopicOffsets(topic).catch((error) => {
        if (isUnknownTopic(error)) return [];
        throw error;
      });
      if (ends.length === 0) return [];
      const [read] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      const committed = new Map(read?.partitions.map(({ partition, offset }) => [partition, BigInt(offset)]));
      return ends.map(({ partition, low, high }) => {
        const next = committed.get(partition) ?? -1n;
        return { partition, from: next > BigInt(low) ? next : BigInt(low), to: BigInt(high) };
      });
    });
  }

  async deleteGroup(group: string): Promise<void> {
    await this.#asking((admin) => admin.deleteGroups([group]));
  }

  async #asking<T>(ask: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = this.#client.admin();
    await admin.connect();
    try {
      return await ask(admin);
    } finally {
      await admin.disconnect();
    }
  }
}
