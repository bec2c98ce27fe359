import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { redis as redisServer } from '../../../tooling/services/redis.ts';
import { type ScratchServer, scratchServer } from '../../../tooling/services/scratch.ts';
import { ack, type Message, retry } from '../src/index.ts';
import { redis } from '../src/redis/index.ts';

const { HOLDFAST_REDIS_URL: url = '' } = process.env;
const logger = silentLogger;

function message(topic: string): Message {
  return { id: uuidv7(), topic, key: 'k', headers: {}, body: new Uint8Array(1), contentType: 'text/plain' };
}

describe.runIf(url)('a group in Redis', () => {
  it('keeps no consumer of members that left, and loses no message that one of them had', async () => {
    const admin = new Redis(url);
    const [prefix, topic] = [`p${uuidv7().slice(-8)}`, 'orders'];
    const connect = () => redis({ url, prefix, lanes: 2, leaseMs: 500, logger });
    const consumers = async (): Promise<number> => {
      const lanes = await Promise.all([0, 1].map((lane) => admin.xinfo('CONSUMERS', `${prefix}:{${topic}}:${lane}`, 'g')));
      return (lanes as unknown[][]).flat().length;
    };
    for (let start = 0; start < 4; start++) {
      const broker = connect();
      let handled = 0;
      await broker.subscribe([topic], { group: 'g' }, async () => {
        handled += 1;
        return ack;
      });
      await broker.publish([message(topic)]);
      await until(() => handled === 1);
      await broker.close();
    }
    // A read that was on its way when a member closed may make its consumer anew; the next owner of the lane removes it.
    expect(await consumers()).toBeLessThanOrEqual(2);
    // This member leaves a message without a verdict, and its consumer with it.
    const leaving = connect();
    let stuck = 0;
    await leaving.subscribe([topic], { group: 'g', closeMs: 10 }, async () => {
      stuck += 1;
      return retry(60_000);
    });
    const left = message(topic);
    await leaving.publish([left]);
    await until(() => stuck > 0);
    await leaving.close();
    expect(await consumers()).toBeGreaterThanOrEqual(1);
    const next = connect();
    const seen: string[] = [];
    await next.subscribe([topic], { group: 'g' }, async ({ message: { id } }) => {
      seen.push(id);
      return ack;
    });
    await until(() => seen.includes(left.id));
    await until(async () => (await consumers()) <= 2);
    await next.close();
    admin.disconnect();
  });
});

describe.runIf(url)('a Redis master that is demoted', () => {
  let servers: ScratchServer[] = [];
  beforeAll(async () => {
    servers = [await scratchServer(redisServer, 'redis-demoted'), await scratchServer(redisServer, 'redis-promoted')];
  }, 30_000);
  afterAll(async () => {
    for (const server of servers) await server.stop();
  });

  it.each(['url', 'client'])('is left for the new one, which its address leads to now (%s)', async (given) => {
    const ports = servers.map((server) => Number(new URL(server.url).port));
    const admins = servers.map((server) => new Redis(server.url));
    await admins[0]?.replicaof('NO', 'ONE');
    let port = ports[0] ?? 0;
    const sockets = new Set<Socket>();
    const address = createServer((client) => {
      const server = connectTcp(port, '127.0.0.1');
      for (const socket of [client, server]) {
        sockets.add(socket);
        socket.on('error', () => undefined);
      }
      client.pipe(server).pipe(client);
    });
    await new Promise<void>((resolve) => address.listen(0, '127.0.0.1', resolve));
    const at = `redis://127.0.0.1:${(address.address() as { port: number }).port}`;
    const client = given === 'client' ? new Redis(at, { maxRetriesPerRequest: 1 }) : undefined;
    client?.on('error', () => undefined);
    const broker = redis({ ...(client ? { client } : { url: at }), prefix: `p${uuidv7().slice(-8)}`, lanes: 1, leaseMs: 500, logger });
    const seen: string[] = [];
    await broker.subscribe(['t'], { group: 'g' }, async ({ message: { id } }) => {
      seen.push(id);
      return ack;
    });
    expect((await broker.publish([message('t')]))[0]?.outcome).toBe('acked');
    port = ports[1] ?? 0;
    await admins[0]?.replicaof('127.0.0.1', port);
    const sent = message('t');
    await until(async () => (await broker.publish([sent]))[0]?.outcome === 'acked');
    await until(() => seen.includes(sent.id));
    await broker.close();
    client?.disconnect();
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => address.close(() => resolve()));
    for (const admin of admins) admin.disconnect();
  });
});
