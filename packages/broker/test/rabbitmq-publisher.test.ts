import { EventEmitter } from 'node:events';
import { uuidv7 } from '@holdfast/core';
import { expect, it } from 'vitest';
import type { Message } from '../src/index.ts';
import type { Link } from '../src/rabbitmq/link.ts';
import { RabbitmqPublisher } from '../src/rabbitmq/rabbitmq-publisher.ts';

/** A channel whose confirms and returns the test sends itself. */
class Channel extends EventEmitter {
  readonly published: { readonly id: string; readonly confirm: (error?: unknown) => void }[] = [];
  async assertExchange(): Promise<void> {}
  publish(_topic: string, _key: string, _body: Buffer, { messageId }: { messageId: string }, confirm: (error?: unknown) => void): void {
    this.published.push({ id: messageId, confirm });
    this.emit('published');
  }
  async close(): Promise<void> {}
  returned(id: string): void {
    this.emit('return', { properties: { messageId: id } });
  }
}

function setUp(timeoutMs: number) {
  const channels: Channel[] = [];
  const connection = {
    createConfirmChannel: async () => {
      const channel = new Channel();
      channels.push(channel);
      return channel;
    },
    // Topics are checked on channels of their own.
    createChannel: async () => new Channel(),
  };
  const link = { blocked: undefined, connection: async () => connection } as unknown as Link;
  const publisher = new RabbitmqPublisher({ link, source: 's', timeoutMs, lanes: 1, assert: true, maxMessageBytes: 100 });
  /** Publishes, and resolves with the channel once the message is on it. */
  const publish = async (message: Message) => {
    const before = channels.map(({ published }) => published.length);
    const results = publisher.publish([message]);
    const sent = (): Channel | undefined => channels.find(({ published }, i) => published.length > (before[i] ?? 0));
    while (!sent()) await new Promise((resolve) => setImmediate(resolve));
    return { channel: sent() as Channel, results };
  };
  return { channels, publish };
}

const message: Message = { id: uuidv7(), topic: 't', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };

it('does not take a message for unroutable that was returned on a channel that is lost', async () => {
  const { publish } = setUp(5_000);
  const first = await publish(message);
  first.channel.returned(message.id);
  first.channel.emit('close');
  expect((await first.results)[0]?.outcome).toBe('retriable');
  const second = await publish(message);
  expect(second.channel).not.toBe(first.channel);
  // As of a channel that is not closed yet.
  first.channel.returned(message.id);
  second.channel.published[0]?.confirm();
  expect((await second.results)[0]?.outcome).toBe('acked');
});

it('keeps its channel when one that it gave up after a time-out closes', async () => {
  const { channels, publish } = setUp(50);
  const first = await publish(message);
  expect((await first.results)[0]?.outcome).toBe('retriable');
  const second = await publish(message);
  second.channel.published[0]?.confirm();
  expect((await second.results)[0]?.outcome).toBe('acked');
  first.channel.emit('close');
  const third = await publish(message);
  third.channel.published.at(-1)?.confirm();
  expect((await third.results)[0]?.outcome).toBe('acked');
  expect(channels).toHaveLength(2);
});
