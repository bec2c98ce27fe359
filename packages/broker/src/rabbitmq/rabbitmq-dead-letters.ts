import { laneOf, settledWithin } from '@holdfast/core';
import type { Channel, GetMessage } from 'amqplib';
import { fromHeaders } from '../adapter/cloud-events.ts';
import { deadLetterOf } from '../adapter/dead-headers.ts';
import { nobodySubscribes } from '../adapter/nobody-subscribes.ts';
import type { DeadLetter, DeadLetterQuery, DeadLetters, RedriveQuery } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';
import type { Link } from './link.ts';
import { NoQueueError, type QueueWriter } from './queue-writer.ts';
import { replyCode } from './rabbitmq-refusal.ts';
import { messageHeaders, withoutAdded } from './received-headers.ts';
import { deadSuffix, queueName, redriveExchange, routingKey } from './topology.ts';

export interface RabbitmqDeadLettersOptions {
  /** The connection for consuming. */
  readonly link: Link;
  readonly writer: QueueWriter;
  readonly lanes: number;
}

const goodbyeMs = 2_000;

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
        found.push(deadLetterOf(this.#message(got, topic), topic));
      }
      return found;
    });
  }

  redrive({ topic, group, limit = Number.POSITIVE_INFINITY, ids }: RedriveQuery): Promise<number> {
    const wanted = ids && new Set(ids);
    return this.#reading(topic, group, async (next, channel, there) => {
      if (there === 0 || wanted?.size === 0) return 0;
      const write = await this.#writerTo(topic, group);
      let moved = 0;
      // Those that are rejected again meanwhile are not redriven a second time. Those that are passed go back when the channel closes.
      for (let read = 0; read < there && moved < limit; read++) {
        const got = await next();
        if (!got) break;
        if (wanted && !wanted.has(this.#message(got, topic).id)) continue;
        await write(got);
        channel.ack(got);
        moved += 1;
      }
      return moved;
    });
  }

  #message({ properties, content }: GetMessage, topic: string): Message {
    return fromHeaders(messageHeaders(properties), topic, String(properties.messageId), content);
  }

  /**
   * The write of a dead letter into the queues of the group, or into those of all members if it is a broadcast.
   * @throws InvalidArgumentError if neither has ever subscribed; the write throws it, too, if no member of the broadcast is there
   */
  async #writerTo(topic: string, group: string): Promise<(got: GetMessage) => Promise<void>> {
    const { writer, lanes } = this.#options;
    const plain = (got: GetMessage): Record<string, unknown> => {
      const { 'x-dead-reason': _, ...headers } = withoutAdded(got.properties.headers);
      return headers;
    };
    if (await this.#exists((channel) => channel.checkQueue(queueName(group, topic))))
      return (got) => {
        const headers = plain(got);
        const key = headers.ce_partitionkey as string | undefined;
        const queue = queueName(group, topic, routingKey(key === undefined ? undefined : laneOf(key, lanes)));
        return writer.write(async () => queue, got.content, { ...got.properties, headers });
      };
    const exchange = redriveExchange(group, topic);
    if (!(await this.#exists((channel) => channel.checkExchange(exchange)))) throw nobodySubscribes(topic, group);
    return async (got) => {
      try {
        await writer.writeToAll(exchange, got.content, { ...got.properties, headers: plain(got) });
      } catch (error) {
        throw error instanceof NoQueueError ? nobodySubscribes(topic, group) : error;
      }
    };
  }

  /** Asks on a channel of its own: the server closes it if there is no such thing. */
  async #exists(check: (channel: Channel) => Promise<unknown>): Promise<boolean> {
    const channel = await this.#channel();
    try {
      await check(channel);
      return true;
    } catch (error) {
      if (replyCode(error) === 404) return false;
      throw error;
    } finally {
      await settledWithin(goodbyeMs, channel.close());
    }
  }

  async #channel(): Promise<Channel> {
    const channel = await (await this.#options.link.connection()).createChannel();
    channel.on('error', () => {
      // The call that fails reports it.
    });
    return channel;
  }

  async #reading<T>(
    topic: string,
    group: string,
    read: (next: () => Promise<GetMessage | false>, channel: Channel, there: number) => Promise<T>,
  ): Promise<T> {
    const queue = queueName(group, topic, deadSuffix);
    const channel = await this.#channel();
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
      await settledWithin(goodbyeMs, channel.close());
    }
  }
}
