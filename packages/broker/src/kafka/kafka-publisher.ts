import { type Logger, wait } from '@holdfast/core';
import { type Kafka, type Message as KafkaMessage, Partitioners, type Producer, type RecordMetadata } from 'kafkajs';
import { toBareHeaders } from '../cloud-events.ts';
import { isolatePoison } from '../isolate-poison.ts';
import type { Message } from '../message.ts';
import { publishTimedOut } from '../publish-results.ts';
import type { Publisher, PublishResult } from '../publisher.ts';
import { kafkaRefusal } from './kafka-error.ts';

export interface KafkaPublisherOptions {
  readonly client: Kafka;
  readonly source: string;
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/** One `sendBatch` per call, idempotent, `acks = -1`; the key decides the partition. */
export class KafkaPublisher implements Publisher {
  /** The idempotent producer's sequence numbers make a partition refuse what comes after a gap. */
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
    const done = new AbortController();
    const late = wait(this.#options.timeoutMs, AbortSignal.any([done.signal, ...(signal ? [signal] : [])])).then(() => undefined);
    late.catch(() => undefined);
    try {
      const results = await Promise.race([this.#send(batch), late]);
      if (results) return results;
      // What was sent may still arrive. A new producer, so that nothing waits behind it.
      this.#discard();
      return batch.map(() => publishTimedOut(this.#options.timeoutMs));
    } finally {
      done.abort(new Error('published'));
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
      const refusal = kafkaRefusal(error);
      if (refusal.outcome !== 'poison') {
        this.#discard();
        return batch.map(() => refusal);
      }
      if (batch.length === 1) return [refusal];
      return isolatePoison(batch, (part) => this.#send(part));
    }
    return this.#placed(batch, records, metadata);
  }

  /** Where each message is: the base offset of its partition and its place among those of the batch. */
  #placed(batch: readonly Message[], records: readonly KafkaMessage[], metadata: readonly RecordMetadata[]): PublishResult[] {
    // Offsets stay far below 2^53: a partition would have to take a million a second for 285 years.
    const next = new Map<string, Map<number, number>>();
    for (const { topicName, partition, baseOffset, offset } of metadata) {
      const partitions = next.get(topicName) ?? new Map<number, number>();
      next.set(topicName, partitions);
      partitions.set(partition, Number(baseOffset ?? offset ?? 0));
    }
    return batch.map(({ topic }, i) => {
      const partition = this.#partitions.get(records[i] as KafkaMessage) ?? 0;
      const partitions = next.get(topic);
      const offset = partitions?.get(partition) ?? 0;
      partitions?.set(partition, offset + 1);
      return { outcome: 'acked', at: { topic, partition, offset } };
    });
  }

  #open(): Promise<Producer> {
    if (this.#closed) return Promise.reject(new Error('The publisher is closed.'));
    this.#producer ??= (async () => {
      const inner = Partitioners.DefaultPartitioner();
      const producer = this.#options.client.producer({
        idempotent: true,
        allowAutoTopicCreation: false,
        // The caller tries again, and knows more; kafkajs must try once more to be idempotent at all.
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
    producer
      ?.then((open) => open.disconnect())
      .catch((err) => this.#options.logger.debug({ err }, 'a producer was not closed in good order'));
  }
}
