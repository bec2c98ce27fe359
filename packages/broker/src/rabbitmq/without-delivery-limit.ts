import type { Logger } from '@holdfast/core';
import type { ChannelModel, Options } from 'amqplib';

/** Queues of which this process has warned. */
const warned = new Set<string>();

type QueueArguments = NonNullable<Options.AssertQueue['arguments']>;

/**
 * Declares a quorum queue without a limit on redeliveries, and returns the arguments that it has. RabbitMQ 4 drops a message after its
 * 20th redelivery, and each lost connection counts, also for messages that only waited in a consumer's window.
 *
 * Older servers have no limit and must not get the argument: 3.10.8 accepts `x-delivery-limit = -1`, and then drops a message at its
 * first redelivery.
 *
 * RabbitMQ can't add the argument to a queue that exists: such a queue is used as it is, with a warning that says what to do. The queue
 * is declared on a channel of its own, because a refusal closes the channel.
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
    // The call that fails reports it.
  });
  try {
    await channel.assertQueue(queue, { durable: true, arguments: unlimited });
    await channel.close();
    return unlimited;
  } catch (err) {
    if (!/x-delivery-limit.*current is none/s.test((err as Error).message)) throw err;
    const [group] = queue.split('.');
    if (!warned.has(queue))
      logger.warn(
        { err, queue },
        // The policy's name contains the group's: a second policy of the same name would replace the first.
        `the queue ${queue} was declared without x-delivery-limit, so RabbitMQ drops a message after its 20th redelivery; lift the limit: rabbitmqctl set_policy holdfast-keep-${group} '^${group}\\.' '{"delivery-limit": -1}' --apply-to quorum_queues`,
      );
    warned.add(queue);
    return args;
  }
}

function majorVersion(connection: ChannelModel): number {
  return Number.parseInt(String((connection.connection.serverProperties as { version?: string }).version ?? '0'), 10);
}
