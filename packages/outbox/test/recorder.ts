import { type Message, type Publisher, type PublishResult, refused } from '@holdfast/broker';

export type Rule = (message: Message) => 'acked' | 'retriable' | 'backpressure' | 'poison' | 'fatal';

/** A publisher that keeps what it acked, and refuses what a test tells it to: a broker can't be told to refuse one key. */
export class Recorder implements Publisher {
  readonly prefixPerKey: boolean;
  readonly acked: Message[] = [];
  /** Batches as they came. */
  readonly batches: (readonly Message[])[] = [];
  rule: Rule = () => 'acked';
  /** Awaited before each answer. */
  pause: () => Promise<void> = async () => undefined;

  constructor(options: { readonly prefixPerKey?: boolean } = {}) {
    this.prefixPerKey = options.prefixPerKey ?? false;
  }

  async publish(batch: readonly Message[], { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly PublishResult[]> {
    this.batches.push(batch);
    await this.pause();
    signal?.throwIfAborted();
    const refusedKeys = new Set<string>();
    return batch.map((message): PublishResult => {
      const outcome = this.rule(message);
      const name = `${message.topic} ${message.key}`;
      if (this.prefixPerKey && message.key !== undefined && refusedKeys.has(name)) return refused('retriable', new Error('an earlier one'));
      if (outcome === 'acked') {
        this.acked.push(message);
        return { outcome, at: { n: this.acked.length } };
      }
      if (outcome !== 'poison') refusedKeys.add(name);
      return refused(outcome, Object.assign(new Error(`told to be ${outcome}`), { code: outcome }));
    });
  }

  async close(): Promise<void> {
    // Nothing is open.
  }

  /** Numbers of the payloads by key, repeats left out. */
  byKey(): Map<string, number[]> {
    const lists = new Map<string, number[]>();
    const seen = new Set<string>();
    for (const message of this.acked) {
      if (seen.has(message.id)) continue;
      seen.add(message.id);
      const { n } = JSON.parse(Buffer.from(message.body).toString()) as { n: number };
      const list = lists.get(message.key ?? '');
      if (list) list.push(n);
      else lists.set(message.key ?? '', [n]);
    }
    return lists;
  }
}

/** Counts the numbers that stand after a greater one. */
export function outOfOrder(lists: Map<string, number[]>): number {
  let count = 0;
  for (const list of lists.values()) for (let i = 1; i < list.length; i++) if ((list[i] ?? 0) < (list[i - 1] ?? 0)) count += 1;
  return count;
}
