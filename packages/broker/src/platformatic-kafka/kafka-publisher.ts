import type { Logger } from '@holdfast/core';
import { type BaseOptions, compatibilityPartitioner, type MessageToProduce, ProduceAcks, Producer } from '@platformatic/kafka';
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
  readonly base: BaseOptions;
  readonly source: string;
  readonly timeoutMs: number;
  readonly unknownTopics: UnknownTopics;
  readonly logger: Logger;
}

const known = new Map<string, Buffer>();

/** The bytes of a header's name, cached, because the client takes bytes and names are few. */
function bytesOf(text: string): Buffer {
  let bytes = known.get(text);
  if (!bytes) {
    bytes = Buffer.from(text);
    if (known.size >= 1_000) known.clear();
    known.set(text, bytes);
  }
  return bytes;
}

/** The partitioner reads only the key. */
const noMessage = { topic: '', value: Buffer.alloc(0) };

/** Sends each batch by one request per broker of an idempotent producer with `acks = -1`. The key decides the partition. */
export class KafkaPublisher implements Publisher {
  /** By the idempotent producer's sequence numbers a partition refuses every record after a gap. */
  readonly prefixPerKey = true;
  readonly #options: KafkaPublisherOptions;
  #producer: Producer | undefined;
  #closed = false;
  #turn = 0;

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
    await producer?.close().catch(() => undefined);
  }

  async #send(batch: readonly Message[]): Promise<PublishResult[]> {
    try {
      const producer = this.#open();
      const { topics } = await producer.metadata({ topics: [...new Set(batch.map(({ topic }) => topic))], retries: 1 });
      const messages = batch.map((message): MessageToProduce & { partition: number } => {
        const { topic, key, body, contentType } = message;
        const partitions = topics.get(topic)?.partitionsCount ?? 1;
        const keyBytes = key === undefined ? undefined : Buffer.from(key);
        const headers = new Map([[bytesOf('content-type'), Buffer.from(contentType)]]);
        for (const [name, value] of Object.entries(toBareHeaders(message, this.#options.source)))
          headers.set(bytesOf(name), Buffer.from(value));
        return {
          topic,
          ...(keyBytes === undefined ? {} : { key: keyBytes }),
          value: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
          headers,
          // The partition that Kafka's Java client and kafkajs choose; this client's default chooses another.
          partition: (keyBytes === undefined ? this.#turn++ : compatibilityPartitioner(noMessage, keyBytes)) % partitions,
        };
      });
      const { offsets = [] } = await producer.send({ messages });
      this.#options.unknownTopics.found(topics.keys());
      return ackedRecords(
        messages,
        offsets.map(({ topic, partition, offset }) => ({ topic, partition, baseOffset: Number(offset) })),
      );
    } catch (error) {
      if (isUnknownTopic(error)) return this.#options.unknownTopics.refuse(batch, error, (part) => this.#send(part));
      const refusal = kafkaRefusal(error);
      if (refusal.outcome === 'poison' && batch.length > 1) return isolatePoison(batch, (part) => this.#send(part));
      if (refusal.outcome !== 'poison') this.#discard();
      return batch.map(() => refusal);
    }
  }

  #open(): Producer {
    if (this.#closed) throw new Error('The publisher is closed.');
    this.#producer ??= new Producer({
      ...this.#options.base,
      idempotent: true,
      acks: ProduceAcks.ALL,
      autocreateTopics: false,
      // An idempotent producer of this client retries for ever, whatever `retries` is; this one is discarded after the time-out.
      retryDelay: 50,
      timeout: this.#options.timeoutMs,
    });
    return this.#producer;
  }

  #discard(): void {
    const producer = this.#producer;
    this.#producer = undefined;
    producer?.close().catch((err) => this.#options.logger.debug({ err }, 'closing a producer failed'));
  }
}
