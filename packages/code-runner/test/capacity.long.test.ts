import { existsSync } from 'node:fs';
import { silentLogger } from '@holdfast/core';
import { type Channel, connect } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { rabbitQueue } from '../src/rabbitmq/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { onEveryDatabase } from './suite.ts';

const url = process.env.HOLDFAST_RABBITMQ_URL ?? '';

describe.runIf(existsSync('/usr/bin/bwrap') && url)('capacity', () => {
  onEveryDatabase(
    '200 submits at 4 slots, by two workers over RabbitMQ',
    (suite) => {
      it('never more than 4 run, none is idle while work waits, the urgent come first, no message is given back', async () => {
        const name = `cap${process.pid}.${Math.random().toString(36).slice(2, 8)}`;
        const runner = suite.runner({
          executor: localSandbox(),
          queue: rabbitQueue({ url, name, logger: silentLogger }),
          pools: { small: { slots: 4 } },
        });
        const task = await runner.tasks.create({
          actor: 'alice',
          name: 'sleep',
          language: 'python',
          files: { 'r.sh': 'sleep 1' },
          main: 'r.sh',
        });
        const submitted: { id: string; priority: number }[] = [];
        // One task, two hundred people: one live run each. The urgent come last, and go first.
        const authorized = suite.runner({ authorize: () => true, queue: rabbitQueue({ url, name, logger: silentLogger }) });
        for (let i = 0; i < 200; i++) {
          const priority = i < 100 ? -1 : i < 150 ? 0 : 5;
          const { id } = await authorized.runs.submit(task.id, { actor: `person-${i}`, priority });
          submitted.push({ id, priority });
        }
        await Promise.all([runner.worker({ concurrency: 4, sweep: '1h' }).start(), runner.worker({ concurrency: 4, sweep: '1h' }).start()]);
        const rows = () => suite.db.knex('runner_run').where({ pool: 'small' });
        await expect.poll(async () => (await rows().whereNot({ phase: 'terminal' })).length, { timeout: 90_000, interval: 250 }).toBe(0);
        const all = (await rows()).map((row) => ({ ...row, from: Number(row.claimed_at), to: Number(row.ended_at) }));
        expect(all.every(({ state }) => Number(state) === 3)).toBe(true);
        const edges = all.flatMap(({ from, to }) => [
          { ms: from, by: 1 },
          { ms: to, by: -1 },
        ]);
        let [busy, most] = [0, 0];
        for (const { by } of edges.sort((a, b) => a.ms - b.ms || a.by - b.by)) most = Math.max(most, (busy += by));
        expect(most).toBe(4);
        // Work waits until the last is claimed: so long, four sleeps of a second are under way.
        const begun = Math.min(...all.map(({ from }) => from));
        const lastClaim = Math.max(...all.map(({ from }) => from));
        const asleep = all.reduce((sum, { started_at, to }) => sum + Math.max(0, Math.min(to, lastClaim) - Number(started_at)), 0);
        const share = asleep / (4 * (lastClaim - begun));
        console.log(
          `busy: ${(share * 100).toFixed(1)}%, ${((200 / (Math.max(...all.map(({ to }) => to)) - begun)) * 1_000).toFixed(2)} runs/s of at most 4`,
        );
        expect(share).toBeGreaterThan(0.95);
        const order = all
          .sort((a, b) => a.from - b.from || b.priority - a.priority || Number(a.id) - Number(b.id))
          .map(({ id }) => String(id));
        const expected = [...submitted].sort((a, b) => b.priority - a.priority || Number(a.id) - Number(b.id)).map(({ id }) => id);
        // Two workers claim at the same moment: what one has locked the other leaves out. By more than the slots nobody is passed.
        expect(order.every((id, at) => Math.abs(expected.indexOf(id) - at) <= 4)).toBe(true);
        const connection = await connect(url);
        const channel: Channel = await connection.createChannel();
        await expect.poll(async () => (await channel.checkQueue(`${name}.small`)).messageCount, { timeout: 10_000 }).toBe(0);
        expect((await channel.checkQueue(`${name}.dead`)).messageCount).toBe(0);
        for (const queue of ['small', 'dead']) await channel.deleteQueue(`${name}.${queue}`);
        for (const exchange of [name, `${name}.dlx`]) await channel.deleteExchange(exchange);
        await connection.close();
        expect(await suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
      }, 150_000);
    },
    ['postgres'],
  );
});
