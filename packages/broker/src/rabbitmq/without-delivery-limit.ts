import type { Logger } from '@holdfast/core';
import type { ChannelModel, Options } from 'amqplib';

/** Queues that were warned of, once in a process. */
const warned = new Set<string>();

type QueueArguments = NonNullable<Options.AssertQueue['arguments']>;

/**
 * Declares a quorum queue that keeps a message however often it is delivered again. RabbitMQ 4 drops one after 20 redeliveries, and each
 * lost connection counts, also for messages that only waited in a consumer's window. Older servers have no such limit, and no name for
 * none.
 *
 * A queue that is there without the argument, made before its server was upgraded, can't be given it: it is used as it is, with a warning
 * that says what to do. Tried on a channel of its own, because a refusal closes the channel.
 */
export async function withoutDeliveryLimit(
  connection: ChannelModel,
  queue: string,
  args: QueueArguments,
  logger: Logger,
): Promise<QueueArguments> {
  if (args['x-queue-type'] !== 'quorum' || majorVersion(connection) < 4) return args;
  const unlimited = { ...args, 'x-delivery-limit': -1 };
  const channel = await connection.createChannel();
  channel.on('error', () => {
    // Told by the call that fails.
  });
  try {
    await channel.assertQueue(queue, { durable: true, arguments: unlimited });
    await channel.close();
    return unlimited;
  } catch (err) {
    if (!/x-delivery-limit.*current is none/s.test((err as Error).message)) throw err;
    if (!warned.has(queue))
      logger.warn(
        { err, queue },
        `the queue ${queue} was made without x-delivery-limit, so RabbitMQ 4 drops a message after 20 redeliveries; lift the limit: rabbitmqctl set_policy holdfast-keep '^${queue.split('.')[0]}\\.' '{"delivery-limit": -1}' --apply-to quorum_queues`,
      );
    warned.add(queue);
    return args;
  }
}

function majorVersion(connection: ChannelModel): number {
  return Number.parseInt(String((connection.connection.serverProperties as { version?: string }).version ?? '0'), 10);
}
