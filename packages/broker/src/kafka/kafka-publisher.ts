import type { Logger } from '@holdfast/core';
import { type Kafka, type Message as KafkaMessage, Partitioners, type Producer, type RecordMetadata } from 'kafkajs';
import { toBareHeaders } from '../adapter/cloud-events.ts';
import { isolatePoison } from '../adapter/isolate-poison.ts';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import { ackedRecords } from '../kafka-wire/records.ts';
import type { UnknownTopics } from '../kafka-wire/unknown-topics.ts';
import type { Message } from '../port/message.ts';
import { publishTimedOut } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import { isUnknownTopic, kafkaRefusal } from './kafka-refusal.ts';

export interface KafkaPublisherOptions {
  readonly client: Kafka;
  readonly source: string;
  readonly timeoutMs: number;
  readonly unknownTopics: UnknownTopics;
  readonly logger: Logger;
}

/** Sends each batch by one `sendBatch` of an idempotent producer with `acks = -1`. The key decides the partition. */
export class KafkaPublisher implements Publisher {
  /** By the idempotent producer's sequence numbers a partition refuses every record after a gap. */
  readonly prefixPerKey = true;
  readonly #options: KafkaPublisherOptions;
  readonly #partitions = new WeakMap<KafkaMessage, number>();
  #producer: Promise<Producer> | undefined;
  #closed = false;

  constructor(options: KafkaPublisherOptions) {
    this.#options = options;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    signal?.throwIfAborted();
    if (batch.length === 0) return [];
    const deadline = new PublishDeadline(this.#options.timeoutMs, signal);
    try {
      const results = await deadline.race(this.#send(batch));
      if (results) return results;
      // The records may still arrive. A new producer keeps later ones from waiting behind them.
      this.#discard();
      return batch.map(() => publishTimedOut(this.#options.timeoutMs));
    } finally {
      deadline.end();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const producer = this.#producer;
    this.#producer = undefined;
    await producer?.then((open) => open.disconnect()).catch(() => undefined);
  }

  async #send(batch: readonly Message[]): Promise<PublishResult[]> {
    const records = batch.map(
      (message): KafkaMessage => ({
        key: message.key ?? null,
        value: Buffer.from(message.body.buffer, message.body.byteOffset, message.body.byteLength),
        headers: { ...toBareHeaders(message, this.#options.source), 'content-type': message.contentType },
      }),
    );
    const topics = new Map<string, KafkaMessage[]>();
    for (const [i, record] of records.entries()) {
      const topic = batch[i]?.topic ?? '';
      const list = topics.get(topic);
      if (list) list.push(record);
      else topics.set(topic, [record]);
    }
    let metadata: RecordMetadata[];
    try {
      const producer = await this.#open();
      metadata = await producer.sendBatch({
        acks: -1,
        timeout: this.#options.timeoutMs,
        topicMessages: [...topics].map(([topic, messages]) => ({ topic, messages })),
      });
    } catch (error) {
      if (isUnknownTopic(error)) return this.#options.unknownTopics.refuse(batch, error, (part) => this.#send(part));
      const refusal = kafkaRefusal(error);
      if (refusal.outcome !== 'poison') {
        this.#discard();
        return batch.map(() => refusal);
      }
      if (batch.length === 1) return [refusal];
      return isolatePoison(batch, (part) => this.#send(part));
    }
    this.#options.unknownTopics.found(topics.keys());
    return ackedRecords(
      batch.map(({ topic }, i) => ({ topic, partition: this.#partitions.get(records[i] as KafkaMessage) ?? 0 })),
      metadata.map(({ topicName, partition, baseOffset, offset }) => ({
        topic: topicName,
        partition,
        baseOffset: Number(baseOffset ?? offset ?? 0),
      })),
    );
  }

  #open(): Promise<Producer> {
    if (this.#closed) return Promise.reject(new Error('The publisher is closed.'));
    this.#producer ??= (async () => {
      const inner = Partitioners.DefaultPartitioner();
      const producer = this.#options.client.producer({
        idempotent: true,
        allowAutoTopicCreation: false,
        // The caller retries, and knows more; but kafkajs refuses to be idempotent without a retry.
        retry: { retries: 1, initialRetryTime: 50 },
        createPartitioner: () => (args) => {
          const partition = inner(args);
          this.#partitions.set(args.message, partition);
          return partition;
        },
      });
      try {
        await producer.connect();
      } catch (error) {
        this.#producer = undefined;
        throw error;
      }
      return producer;
    })();
    return this.#producer;
  }

  #discard(): void {
    const producer = this.#producer;
    this.#producer = undefined;
    producer?.then((open) => open.disconnect()).catch((err) => this.#options.logger.debug({ err }, 'closing a producer failed'));
  }
}
