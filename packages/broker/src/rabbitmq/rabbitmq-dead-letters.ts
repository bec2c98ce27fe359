import { laneOf, settledWithin } from '@holdfast/core';
import type { Channel, GetMessage } from 'amqplib';
import { fromHeaders } from '../adapter/cloud-events.ts';
import { deadLetterOf } from '../adapter/dead-headers.ts';
import type { DeadLetter, DeadLetterQuery, DeadLetters } from '../port/dead-letters.ts';
import type { Link } from './link.ts';
import type { QueueWriter } from './queue-writer.ts';
import { replyCode } from './rabbitmq-refusal.ts';
import { messageHeaders, withoutAdded } from './received-headers.ts';
import { deadSuffix, queueName, routingKey } from './topology.ts';

export interface RabbitmqDeadLettersOptions {
  /** The connection for consuming. */
  readonly link: Link;
  readonly writer: QueueWriter;
  readonly lanes: number;
}

/** The dead letters of a group and topic, which have a queue of their own. */
export class RabbitmqDeadLetters implements DeadLetters {
  readonly #options: RabbitmqDeadLettersOptions;

  constructor(options: RabbitmqDeadLettersOptions) {
    this.#options = options;
  }

  list({ topic, group, limit = 100 }: DeadLetterQuery): Promise<readonly DeadLetter[]> {
    // When the channel closes, the messages go back to their places.
    return this.#reading(topic, group, async (next) => {
      const found: DeadLetter[] = [];
      while (found.length < limit) {
        const got = await next();
        if (!got) break;
        const headers = messageHeaders(got.properties);
        found.push(deadLetterOf(fromHeaders(headers, topic, String(got.properties.messageId), got.content), topic));
      }
      return found;
    });
  }

  redrive({ topic, group, limit = Number.POSITIVE_INFINITY }: DeadLetterQuery): Promise<number> {
    return this.#reading(topic, group, async (next, channel, there) => {
      let moved = 0;
      // Those that are rejected again meanwhile are not redriven a second time.
      for (const most = Math.min(limit, there); moved < most; moved++) {
        const got = await next();
        if (!got) break;
        const { 'x-dead-reason': _, ...headers } = withoutAdded(got.properties.headers);
        const key = headers.ce_partitionkey as string | undefined;
        const queue = queueName(group, topic, routingKey(key === undefined ? undefined : laneOf(key, this.#options.lanes)));
        await this.#options.writer.write(async () => queue, got.content, { ...got.properties, headers });
        channel.ack(got);
      }
      return moved;
    });
  }

  async #reading<T>(
    topic: string,
    group: string,
    read: (next: () => Promise<GetMessage | false>, channel: Channel, there: number) => Promise<T>,
  ): Promise<T> {
    const queue = queueName(group, topic, deadSuffix);
    const channel = await (await this.#options.link.connection()).createChannel();
    channel.on('error', () => {
      // The call that fails reports it.
    });
    try {
      const there = await channel.checkQueue(queue).then(
        ({ messageCount }) => messageCount,
        (error) => {
          if (replyCode(error) === 404) return undefined;
          throw error;
        },
      );
      return await read(async () => there !== undefined && channel.get(queue), channel, there ?? 0);
    } finally {
      await settledWithin(2_000, channel.close());
    }
  }
}
