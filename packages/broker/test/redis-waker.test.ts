import { silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { redisWaker } from '../src/redis/index.ts';

const url = process.env.HOLDFAST_REDIS_URL;

it.runIf(url)('carries notes to other processes, not to itself, and wakes every listener after its connection was lost', async () => {
  const clients = [new Redis(url ?? ''), new Redis(url ?? '')] as const;
  const [here, there] = clients.map((client) => redisWaker({ client, prefix: `w${process.pid}`, logger: silentLogger }));
  const own: (readonly string[])[] = [];
  const heard: (readonly string[])[] = [];
  here?.listen('news', (notes) => own.push(notes));
  there?.listen('news', (notes) => heard.push(notes));
  await until(() => here?.reliable && there?.reliable);
  own.length = 0;
  heard.length = 0;
  here?.wake('news', '1 a');
  here?.wake('news', '2 b');
  await until(() => heard.length > 0);
  expect(heard).toEqual([['1 a', '2 b']]);
  here?.wake('other');
  here?.wake('news');
  await until(() => heard.length > 1);
  expect(heard[1]).toEqual([]);
  expect(own).toEqual([]);
  await clients[0].call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  await until(() => heard.length > 2);
  expect(heard[2]).toEqual([]);
  // A wake-up that could not be sent is sent after the reconnect: connected listeners poll seldom in the meantime.
  await until(() => there?.reliable);
  clients[0].disconnect();
  await until(() => clients[0].status === 'end');
  here?.wake('news', '3 c');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(heard.flat()).not.toContain('3 c');
  await clients[0].connect();
  await until(() => heard.flat().includes('3 c'));
  await here?.close();
  await there?.close();
  for (const client of clients) client.disconnect();
});
