import { type Logger, startTimer, uuidv7 } from '@holdfast/core';
import { asDead, asRedriven, deadLetterOf, isDeadFor } from '../adapter/dead-headers.ts';
import type { DeadLetter, DeadLetterQuery, DeadLetters, RedriveQuery } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';
import type { Publisher } from '../port/publisher.ts';
import { ack, type DeliveryVerdict, retry, type Subscriber } from '../port/subscriber.ts';

/** The records of one partition that a group has not read. */
export interface Unread {
  readonly partition: number;
  /** The first offset. */
  readonly from: bigint;
  /** The offset after the last one. */
  readonly to: bigint;
}

/** What a Kafka client has to know for dead letters. */
export interface KafkaOffsets {
  /** The records of a topic that a group has not committed. Empty if the topic does not exist. */
  unread(topic: string, group: string): Promise<readonly Unread[]>;
  /** Deletes a group without members. */
  deleteGroup(group: string): Promise<void>;
}

export interface KafkaDeadLettersOptions {
  readonly offsets: KafkaOffsets;
  readonly publisher: Publisher;
  readonly subscribe: Subscriber['subscribe'];
  readonly logger: Logger;
}

/** A dead letter, and the record that holds it. */
interface PlacedLetter {
  readonly place: readonly [partition: number, offset: bigint];
  readonly letter: DeadLetter;
}

/** The longest wait for the next dead letter, in ms: a client joins a group within seconds. */
const silenceMs = 30_000;

/**
 * The dead letters in the topic `<topic>.dead`, which the groups of a topic share. What a group has redriven is remembered by the committed
 * offsets of the group `<group>.redrive`.
 */
export class KafkaDeadLetters implements DeadLetters {
  readonly #options: KafkaDeadLettersOptions;

  constructor(options: KafkaDeadLettersOptions) {
    this.#options = options;
  }

  async list({ topic, group, limit = 100 }: DeadLetterQuery): Promise<readonly DeadLetter[]> {
    const unread = await this.#options.offsets.unread(`${topic}.dead`, `${group}.redrive`);
    const found = await this.#look(topic, group, unread);
    return found.slice(0, limit).map(({ letter }) => letter);
  }

  async redrive({ topic, group, limit = Number.POSITIVE_INFINITY, ids }: RedriveQuery): Promise<number> {
    const { offsets } = this.#options;
    if (ids?.length === 0) return 0;
    const unread = await offsets.unread(`${topic}.dead`, `${group}.redrive`);
    return ids ? this.#redriveSome(topic, group, unread, new Set(ids), limit) : this.#redriveAll(topic, group, unread, limit);
  }

  async #redriveAll(topic: string, group: string, unread: readonly Unread[], limit: number): Promise<number> {
    let moved = 0;
    await this.#read(topic, `${group}.redrive`, unread, async (message) => {
      if (!isDeadFor(message, group)) return ack;
      if (moved >= limit) return undefined;
      if (!(await this.#publish(asRedriven(message, topic, group)))) return retry(1_000);
      moved += 1;
      return ack;
    });
    return moved;
  }

  /**
   * Redrives the chosen ones. An offset cannot say that a record was redriven and one before it was not: so the group's other records up to the
   * last chosen one are written again at the end of the topic, and the offset passes all of them.
   */
  async #redriveSome(topic: string, group: string, unread: readonly Unread[], wanted: ReadonlySet<string>, limit: number): Promise<number> {
    const chosen = (await this.#look(topic, group, unread)).filter(({ letter }) => wanted.has(letter.message.id)).slice(0, limit);
    const places = new Set(chosen.map(({ place }) => place.join('/')));
    const parts = unread.flatMap((part) => {
      const last = chosen.findLast(({ place: [partition] }) => partition === part.partition);
      return last ? [{ ...part, to: last.place[1] + 1n }] : [];
    });
    let moved = 0;
    await this.#read(topic, `${group}.redrive`, parts, async (message, partition, offset) => {
      if (!isDeadFor(message, group)) return ack;
      const isChosen = places.has(`${partition}/${offset}`);
      const { reason } = deadLetterOf(message, topic);
      const copy = isChosen ? asRedriven(message, topic, group) : { ...asDead(message, group, reason), topic: `${topic}.dead` };
      if (!(await this.#publish(copy))) return retry(1_000);
      if (isChosen) moved += 1;
      return ack;
    });
    return moved;
  }

  async #publish(message: Message): Promise<boolean> {
    const [result] = await this.#options.publisher.publish([message]);
    return result?.outcome === 'acked';
  }

  /** The group's unread dead letters with their places, by partition and offset. Commits nothing that counts. */
  async #look(topic: string, group: string, unread: readonly Unread[]): Promise<readonly PlacedLetter[]> {
    const { offsets, logger } = this.#options;
    const found: PlacedLetter[] = [];
    const reader = `${group}.list.${uuidv7()}`;
    try {
      await this.#read(topic, reader, unread, async (message, partition, offset) => {
        const from = unread.find((one) => one.partition === partition)?.from ?? 0n;
        if (offset >= from && isDeadFor(message, group)) found.push({ place: [partition, offset], letter: deadLetterOf(message, topic) });
        return ack;
      });
    } finally {
      await offsets.deleteGroup(reader).catch((err) => logger.debug({ err, group: reader }, 'a group of Kafka was not deleted'));
    }
    return found.sort(({ place: [p, a] }, { place: [q, b] }) => p - q || Number(a - b));
  }

  /** Reads the unread records, as a member of `group`, until all are read or `take` returns `undefined`. */
  async #read(
    topic: string,
    group: string,
    unread: readonly Unread[],
    take: (message: Message, partition: number, offset: bigint) => Promise<DeliveryVerdict | undefined>,
  ): Promise<void> {
    const left = new Map(unread.filter(({ from, to }) => from < to).map(({ partition, to }) => [partition, to]));
    if (left.size === 0) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const late = () => reject(new Error(`Kafka delivered nothing of ${topic}.dead for ${silenceMs} ms.`));
    let timer = startTimer(silenceMs, late);
    let done = false;
    const handler = async ({ message, at }: { readonly message: Message; readonly at: Readonly<Record<string, string | number>> }) => {
      timer.clear();
      timer = startTimer(silenceMs, late);
      const partition = Number(at.partition);
      const offset = BigInt(at.offset ?? 0);
      const to = left.get(partition);
      // Published after the call began, or not to be read any more.
      if (done || to === undefined || offset >= to) return retry(silenceMs);
      const verdict = await take(message, partition, offset);
      if (verdict?.outcome === 'ack' && offset + 1n >= to) left.delete(partition);
      if (verdict === undefined || left.size === 0) {
        done = true;
        resolve();
      }
      return verdict ?? retry(silenceMs);
    };
    const subscription = await this.#options.subscribe([`${topic}.dead`], { group, concurrency: 1 }, handler);
    try {
      await promise;
    } finally {
      timer.clear();
      await subscription.close();
    }
  }
}
