import { guardLogger, type Logger, laneOf, startTimer } from '@holdfast/core';
import { checkedDeadLetters } from '../adapter/checked-dead-letters.ts';
import { handling } from '../adapter/handling.ts';
import { KeyedRunner } from '../adapter/keyed-runner.ts';
import { nobodySubscribes } from '../adapter/nobody-subscribes.ts';
import type { Broker, DeadLetter } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';
import { refused } from '../port/publish-results.ts';
import type { PublishResult } from '../port/publisher.ts';
import type { Delivery, DeliveryVerdict, SubscribeOptions, Subscription } from '../port/subscriber.ts';

/** A broker within one process, for tests: its messages are lost when the process ends. */
export interface MemoryBroker extends Broker {
  /** Rejected messages, with the reason and the group. */
  readonly dead: readonly (DeadLetter & { readonly group: string })[];
}

interface Member {
  readonly topics: ReadonlySet<string>;
  /** Unique for each member of a broadcast. */
  readonly group: string;
  /** The group's name as it was given. */
  readonly name: string;
  readonly runner: KeyedRunner;
  /** Deliveries without a final verdict. */
  readonly open: Set<OpenDelivery>;
}

interface OpenDelivery {
  readonly message: Message;
  readonly group: string;
  /** The group's name as it was given. */
  readonly name: string;
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
  const dead: (DeadLetter & { readonly group: string })[] = [];
  /** Dead letters of broadcasts: no member can be waited for that would get them. */
  const ofBroadcasts = new WeakSet<object>();
  /** Deliveries of members that left, until another member of their group subscribes. */
  let orphans: OpenDelivery[] = [];
  let turn = 0;

  /** The groups of a topic, with their names. */
  const groupsOf = (topic: string): Map<string, string> =>
    new Map([...members].filter(({ topics }) => topics.has(topic)).map(({ group, name }) => [group, name]));

  const deadOf = (topic: string, group: string) => dead.filter((one) => one.message.topic === topic && one.group === group);

  const deliver = (open: OpenDelivery): void => {
    const { message, group, attempt } = open;
    const candidates = [...members].filter((member) => member.group === group && member.topics.has(message.topic));
    const member = candidates[(message.key === undefined ? turn++ : laneOf(message.key, 1024)) % Math.max(1, candidates.length)];
    if (!member) {
      orphans.push(open);
      return;
    }
    member.open.add(open);
    const settle = (verdict: DeliveryVerdict): undefined => {
      if (!member.open.delete(open)) return undefined;
      if (verdict.outcome === 'retry') {
        startTimer(verdict.afterMs, () => deliver({ ...open, attempt: attempt + 1 }));
        return undefined;
      }
      if (verdict.outcome === 'reject') {
        const letter = { message, group: open.name, reason: verdict.reason };
        dead.push(letter);
        if (group !== open.name) ofBroadcasts.add(letter);
      }
      open.done();
      return undefined;
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
        await Promise.all(
          groups.map(([group, name]) => new Promise<void>((done) => deliver({ message: copy, group, name, attempt: 1, done }))),
        );
        return { outcome: 'acked', at: { groups: groups.length } };
      });
      return Promise.race([Promise.all(results), aborted]);
    },
    async subscribe<Payload>(
      topics: readonly string[],
      subscribe: SubscribeOptions<Payload>,
      handler: (delivery: Delivery<Payload>) => Promise<DeliveryVerdict>,
    ): Promise<Subscription> {
      const runner = new KeyedRunner({
        concurrency: subscribe.concurrency ?? 6,
        handle: handling(subscribe, handler, logger),
      });
      const group = subscribe.mode === 'broadcast' ? `${subscribe.group} ${turn++}` : subscribe.group;
      const member: Member = { topics: new Set(topics), group, name: subscribe.group, runner, open: new Set() };
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
    deadLetters: checkedDeadLetters({
      list: async ({ topic, group, limit = 100 }) => deadOf(topic, group).slice(0, limit),
      async redrive({ topic, group, limit = Number.POSITIVE_INFINITY, ids }) {
        const wanted = ids && new Set(ids);
        const chosen = deadOf(topic, group)
          .filter(({ message: { id } }) => wanted?.has(id) ?? true)
          .slice(0, limit);
        const receivers = [...groupsOf(topic)].filter(([, name]) => name === group);
        if (receivers.length === 0 && chosen.some((letter) => ofBroadcasts.has(letter))) throw nobodySubscribes(topic, group);
        for (const letter of chosen) {
          dead.splice(dead.indexOf(letter), 1);
          // Without a member they wait for one of the group.
          for (const [one, name] of receivers.length > 0 ? receivers : [[group, group] as const])
            deliver({ message: letter.message, group: one, name, attempt: 1, done: () => undefined });
        }
        return chosen.length;
      },
    }),
    async close() {
      for (const { runner } of members) await runner.close(0);
      members.clear();
    },
  };
}
