import type { Redis } from 'ioredis';
import { oversized } from '../adapter/oversized.ts';
import { PublishDeadline } from '../adapter/publish-deadline.ts';
import type { Message } from '../port/message.ts';
import { publishTimedOut } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import { redisRefusal } from './redis-refusal.ts';
import { fields, laneFor, type StreamLayout, streamKey } from './streams.ts';

export interface RedisPublisherOptions extends StreamLayout {
  readonly client: Redis;
  readonly source: string;
  readonly timeoutMs: number;
  readonly maxMessageBytes: number;
  /** About how many entries each stream keeps; `undefined` keeps all. */
  readonly maxLength: number | undefined;
}

/** Sends each batch as one pipeline of XADD. */
export class RedisPublisher implements Publisher {
  readonly prefixPerKey = false;
  readonly #options: RedisPublisherOptions;
  #turn = 0;

  constructor(options: RedisPublisherOptions) {
    this.#options = options;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    signal?.throwIfAborted();
    const { client, source, timeoutMs, maxMessageBytes, maxLength } = this.#options;
    const results: (PublishResult | undefined)[] = batch.map((message) => oversized(message, maxMessageBytes));
    const pipeline = client.pipeline();
    const sent: { readonly at: number; readonly stream: string }[] = [];
    for (const [at, message] of batch.entries()) {
      if (results[at]) continue;
      const stream = streamKey(this.#options, message.topic, laneFor(this.#options, message, this.#turn++));
      if (maxLength === undefined) pipeline.xadd(stream, '*', ...fields(message, source));
      else pipeline.xadd(stream, 'MAXLEN', '~', maxLength, '*', ...fields(message, source));
      sent.push({ at, stream });
    }
    const deadline = new PublishDeadline(timeoutMs, signal);
    try {
      const replies = sent.length === 0 ? [] : await deadline.race(pipeline.exec());
      for (const [i, { at, stream }] of sent.entries()) {
        const [error, id] = replies?.[i] ?? [];
        results[at] = replies
          ? error
            ? redisRefusal(error)
            : { outcome: 'acked', at: { stream, id: String(id) } }
          : publishTimedOut(timeoutMs);
      }
    } catch (error) {
      signal?.throwIfAborted();
      for (const { at } of sent) results[at] = redisRefusal(error as Error);
    } finally {
      deadline.end();
    }
    return results.map((result) => result ?? publishTimedOut(timeoutMs));
  }

  async close(): Promise<void> {
    // Callers await their own replies; the broker closes the connection.
  }
}
