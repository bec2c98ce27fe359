import { monotonicMs } from '@holdfast/core';
import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';

/** Topics that Kafka did not know, since when. A topic that is being created, or that the broker asked has not heard of yet, must not cost a message. */
export class UnknownTopics {
  readonly #patienceMs: number;
  readonly #since = new Map<string, number>();

  /** @param patienceMs the time for which a topic may be unknown before its messages count as ones that can never be published */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** The results of a batch of which Kafka does not know a topic. The topics of the batch are published one after another. */
  async refuse(
    batch: readonly Message[],
    error: unknown,
    send: (part: readonly Message[]) => Promise<readonly PublishResult[]>,
  ): Promise<PublishResult[]> {
    const topics = new Set(batch.map(({ topic }) => topic));
    const [only] = topics;
    if (topics.size === 1 && only !== undefined) {
      const result = refused(this.#missed(only) ? 'poison' : 'retriable', error);
      return batch.map(() => result);
    }
    const results: PublishResult[] = [];
    for (const topic of topics) {
      const places = [...batch.keys()].filter((i) => batch[i]?.topic === topic);
      const part = await send(places.map((i) => batch[i] as Message));
      for (const [n, i] of places.entries()) results[i] = part[n] as PublishResult;
    }
    return results;
  }

  /** Notes that topics are known. */
  found(topics: Iterable<string>): void {
    if (this.#since.size > 0) for (const topic of topics) this.#since.delete(topic);
  }

  /** Notes that a topic was not known. Returns whether that has lasted for so long that it is not being created. */
  #missed(topic: string): boolean {
    const now = monotonicMs();
    const since = this.#since.get(topic) ?? now;
    this.#since.set(topic, since);
    return now - since >= this.#patienceMs;
  }
}
