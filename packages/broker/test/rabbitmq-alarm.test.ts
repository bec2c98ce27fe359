import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { silentLogger, uuidv7 } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runningRecord } from '../../../tooling/services/process-record.ts';
import { rabbitmq as rabbitmqServer } from '../../../tooling/services/rabbitmq.ts';
import { type ScratchServer, scratchName, scratchServer } from '../../../tooling/services/scratch.ts';
import { ack, type Message, reject, retry } from '../src/index.ts';
import { rabbitmq } from '../src/rabbitmq/index.ts';

const { HOLDFAST_RABBITMQ_URL: url } = process.env;

/** Runs a command of the server's administrator, in the surroundings of the server: they name its node and its cookie. */
async function control(...args: string[]): Promise<void> {
  const pid = runningRecord(scratchName('rabbitmq-alarm'))?.pid ?? 0;
  const env = Object.fromEntries(
    readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const ctl = `/proc/${pid}/root/usr/lib/rabbitmq/bin/rabbitmqctl`;
  await promisify(execFile)(ctl, args, { env, timeout: 30_000 });
}

describe.runIf(url && process.env.HOLDFAST_LANE !== 'newer')('RabbitMQ under a memory alarm', () => {
  let server: ScratchServer;
  beforeAll(async () => {
    server = await scratchServer(rabbitmqServer, 'rabbitmq-alarm');
  }, 60_000);
  afterAll(async () => {
    await server?.stop();
  });

  it('lets consumers drain their queues while publishers wait, retries and rejects included', async () => {
    const topic = 'alarmed';
    const broker = rabbitmq({ url: server.url, lanes: 1, publishTimeoutMs: 500, logger: silentLogger });
    const message = (letter: string): Message => ({
      id: `${letter}-${uuidv7()}`,
      topic,
      headers: {},
      body: new Uint8Array(1),
      contentType: 'text/plain',
    });
    const acked: string[] = [];
    const open = Promise.withResolvers<void>();
    await broker.subscribe([topic], { group: 'g', concurrency: 4 }, async ({ message: { id }, attempt }) => {
      await open.promise;
      if (id.startsWith('retry') && attempt === 1) return retry(100);
      if (id.startsWith('reject')) return reject('no');
      acked.push(id.split('-')[0] ?? '');
      return ack;
    });
    const batch = ['retry', 'reject', ...Array.from({ length: 40 }, () => 'ack')].map(message);
    expect(new Set((await broker.publish(batch)).map(({ outcome }) => outcome))).toEqual(new Set(['acked']));
    await control('set_vm_memory_high_watermark', 'absolute', '1');
    await until(async () => (await broker.publish([message('ack')]))[0]?.outcome === 'backpressure');
    open.resolve();
    await until(() => acked.filter((letter) => letter === 'ack').length >= 40);
    await until(() => acked.includes('retry'));
    await control('set_vm_memory_high_watermark', '0.6');
    await until(async () => (await broker.publish([message('after')]))[0]?.outcome === 'acked');
    await until(() => acked.includes('after'));
    await broker.close();
  }, 60_000);
});
