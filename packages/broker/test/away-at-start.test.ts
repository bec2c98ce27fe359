import { recordLog, until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { rabbitmq } from '../src/rabbitmq/index.ts';
import { redis } from '../src/redis/index.ts';

const message = { id: '1', topic: 't', headers: {}, body: Buffer.from('{}'), contentType: 'application/json' };

/** Brokers at a port at which nothing listens. */
const away = {
  redis: (logger: ReturnType<typeof recordLog>) => redis({ url: 'redis://127.0.0.1:1', logger }),
  rabbitmq: (logger: ReturnType<typeof recordLog>) => rabbitmq({ url: 'amqp://127.0.0.1:1', logger }),
};

it.each(Object.keys(away) as (keyof typeof away)[])(
  '%s that is away at the start is one warning, however often it is tried',
  async (name) => {
    const log = recordLog();
    const broker = away[name](log);
    for (let n = 0; n < 3; n++) await broker.publish([message]).catch(() => undefined);
    await until(() => log.at('debug', 'ing').length > 1);
    expect(log.lines.filter(({ level }) => level !== 'debug')).toMatchObject([
      { level: 'warn', message: expect.stringMatching(/trying again|reconnecting/) },
    ]);
    await broker.close();
  },
);
