import { guardLogger, type Logger, laneOf } from '@holdfast/core';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { Publisher, PublishResult } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscriber, Subscription } from '../port/subscriber.ts';

/** A broker within one process, for tests: its messages are lost when the process ends. */
export interface MemoryBroker extends Publisher, Subscriber {
  /** Rejected messages, with the reason. */
  readonly dead: readonly { readonly message: Message; readonly reason: string }[];
}

interface Member {
  readonly topics: ReadonlySet<string>;
  /** Unique for each member of a broadcast. */
  readonly group: string;
  readonly runner: KeyedRunner;
  /** Deliveries without a final verdict. */
  readonly open: Set<OpenDelivery>;
}

interface OpenDelivery {
  readonly message: Message;
  readonly group: string;
  readonly attempt: number;
  readonly done: () => void;
}

/**
 * Creates a broker within this process, for tests. A message is acked after every group has given its final verdict, so that no acked
 * message is lost with the process. A topic without a subscription gives `backpressure`. Members of a group take turns; messages of a
 * key stay with one member.
 */
export function memoryBroker(options: { readonly logger?: Logger } = {}): MemoryBroker {
  const logger = guardLogger(options.logger);
  const members = new Set<Member>();
  const dead: { message: Message; reason: string }[] = [];
  /** Deliveries of members that left, until another member of their group subscribes. */
  let orphans: OpenDelivery[] = [];
  let turn = 0;

  const groupsOf = (topic: string): Set<string> =>
    new Set([...members].filter(({ topics }) => topics.has(topic)).map(({ group }) => group));

  const deliver = (open: OpenDelivery): void => {
    const { message, group, attempt } = open;
    const candidates = [...members].filter((member) => member.group === group && member.topics.has(message.topic));
    const member = candidates[(message.key === undefined ? turn++ : laneOf(message.key, 1024)) % Math.max(1, candidates.length)];
    if (!member) {
      orphans.push(open);
      return;
    }
    member.open.add(open);
    const settle = (verdict: DeliveryVerdict): void => {
      if (!member.open.delete(open)) return;
      if (verdict.outcome === 'retry') {
        // A timer that is set for longer than 24 days fires at once.
        setTimeout(() => deliver({ ...open, attempt: attempt + 1 }), Math.min(verdict.afterMs, 2 ** 31 - 1));
        return;
      }
      if (verdict.outcome === 'reject') dead.push({ message, reason: verdict.reason });
      open.done();
    };
    member.runner.push({ message, attempt, at: { group }, settle });
  };

  return {
    prefixPerKey: false,
    dead,
    async publish(batch, { signal } = {}) {
      signal?.throwIfAborted();
      const aborted = new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
      const results = batch.map(async (message): Promise<PublishResult> => {
        const groups = [...groupsOf(message.topic)];
        if (groups.length === 0) return refused('backpressure', new Error(`Nobody subscribes to ${message.topic}.`));
        const copy = { ...message, body: Uint8Array.from(message.body) };
        await Promise.all(groups.map((group) => new Promise<void>((done) => deliver({ message: copy, group, attempt: 1, done }))));
        return { outcome: 'acked', at: { groups: groups.length } };
      });
      return Promise.race([Promise.all(results), aborted]);
    },
    async subscribe(
      topics: readonly string[],
      subscribe: SubscribeOptions,
      handler: (delivery: Delivery) => Promise<DeliveryVerdict>,
    ): Promise<Subscription> {
      const runner = new KeyedRunner({
        concurrency: subscribe.concurrency ?? 6,
        retryMs: subscribe.retryMs ?? 1_000,
        handler,
        onThrow: (err, { id }) => logger.warn({ err, id }, 'a handler threw; the message is delivered again'),
      });
      const group = subscribe.mode === 'broadcast' ? `${subscribe.group} ${turn++}` : subscribe.group;
      const member: Member = { topics: new Set(topics), group, runner, open: new Set() };
      members.add(member);
      const waiting = orphans;
      orphans = [];
      for (const open of waiting) deliver(open);
      return {
        get ready() {
          return members.has(member);
        },
        async close() {
          members.delete(member);
          await runner.close(subscribe.closeMs ?? 30_000);
          const left = [...member.open];
          member.open.clear();
          // A member of a broadcast has no successor that could handle its deliveries.
          for (const open of left) subscribe.mode === 'broadcast' ? open.done() : deliver({ ...open, attempt: open.attempt + 1 });
        },
      };
    },
    async close() {
      for (const { runner } of members) await runner.close(0);
      members.clear();
    },
  };
}
