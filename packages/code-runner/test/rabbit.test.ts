import { existsSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { silentLogger } from '@holdfast/core';
import { tcpProxy, until } from '@holdfast/core/testing';
import { KubeConfig } from '@kubernetes/client-node';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { python, type RunEvent, r, scala } from '../src/index.ts';
import { kubernetes } from '../src/kubernetes/index.ts';
import { rabbitQueue } from '../src/rabbitmq/index.ts';
import { s3Files } from '../src/s3/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { kubernetesDouble } from '../src/testing/index.ts';
import { readZip } from '../src/zip/read-zip.ts';
import { bucket, s3Client } from './s3.ts';
import { alice, eventsOf, logOf, onEveryDatabase, submit, textOf } from './suite.ts';
import { tls } from './tls.ts';

const { HOLDFAST_RABBITMQ_URL: url = '', HOLDFAST_S3_URL: s3 } = process.env;
let names = 0;
const fresh = (): string => `t${process.pid}.${Math.random().toString(36).slice(2, 8)}.${++names}`;

describe.runIf(url)('with RabbitMQ', () => {
  let connection: ChannelModel;
  let channel: Channel;
  beforeAll(async () => {
    connection = await connect(url);
    channel = await connection.createChannel();
  });
  afterAll(async () => {
    for (const queue of made) await channel.deleteQueue(queue);
    for (const exchange of exchanges) await channel.deleteExchange(exchange);
    await connection.close();
  });
  const made = new Set<string>();
  const exchanges = new Set<string>();
  const own = (): string => {
    const name = fresh();
    for (const queue of ['small', 'tiny', 'dead']) made.add(`${name}.${queue}`);
    for (const exchange of [name, `${name}.dlx`]) exchanges.add(exchange);
    return name;
  };
  const depth = async (queue: string): Promise<number> => (await channel.checkQueue(queue)).messageCount;

  onEveryDatabase(
    'the whole way',
    (suite) => {
      const programs = [
        [
          'python',
          'run.py',
          'import time\nfor i in range(40):\n  print("line", i, "äöü", flush=True)\n  time.sleep(0.02)\nopen("/out/result", "w").write("42")\n',
          '/usr/bin/python3',
        ],
        [
          'r',
          'run.R',
          'for (i in 0:39) { cat("line", i, "äöü\\n"); Sys.sleep(0.02) }\ncat("42", file="/out/result")\n',
          '/usr/bin/Rscript',
        ],
        [
          'scala',
          'run.scala',
          'object Run {\n  def main(args: Array[String]): Unit = {\n    val out = new java.io.PrintStream(System.out, true, "UTF-8")\n    for (i <- 0 until 40) { out.println("line " + i + " äöü"); Thread.sleep(20) }\n    val w = new java.io.FileWriter("/out/result"); w.write("42"); w.close()\n  }\n}\n',
          '/usr/bin/scalac',
        ],
      ] as const;
      it
        .runIf(s3)
        .for(programs.flatMap((program) => (['the local sandbox', 'a cluster'] as const).map((where) => [...program, where] as const)))(
        '%s: created, edited, submitted, queued, run, followed by two that come and go, downloaded (%4$s)',
        async ([language, file, code, binary, where], { skip }) => {
          skip(!existsSync(binary), `${binary} is not installed`);
          await using double = where === 'a cluster' ? await kubernetesDouble({ sandbox: localSandbox(), ...(await tls()) }) : undefined;
          const kubeConfig = new KubeConfig();
          if (double) kubeConfig.loadFromString(double.kubeConfig());
          const runner = suite.runner({
            files: s3Files({ client: s3Client(), bucket: await bucket() }),
            queue: rabbitQueue({ url, name: own(), logger: silentLogger }),
            executor: double ? kubernetes({ namespace: double.namespace, kubeConfig, logger: silentLogger }) : localSandbox(),
            languages: [python(), r(), scala()],
          });
          await runner.worker().start();
          const task = await runner.tasks.create({ ...alice, name: 'flow', language });
          await runner.files.write(task.id, file, code, { ...alice, ifVersion: 1 });
          await runner.files.write(task.id, 'docs/notes.txt', 'notes', alice);
          await runner.files.rename(task.id, 'docs', 'more/docs', alice);
          const run = await runner.runs.submit(task.id, alice);
          const read = async (patience: number): Promise<RunEvent[]> => {
            const got: RunEvent[] = [];
            for (let end = false; !end; ) {
              let few = 0;
              for await (const event of runner.runs.events(run.id, {
                ...alice,
                after: got.at(-1)?.seq ?? 0,
                signal: AbortSignal.timeout(60_000),
              })) {
                got.push(event);
                end = event.type === 'state' && event.phase === 'terminal';
                if (++few >= patience) break;
              }
            }
            return got;
          };
          const [one, two] = await Promise.all([read(2), read(5)]);
          const expected = Array.from({ length: 40 }, (_, i) => `line ${i} äöü\n`).join('');
          expect([logOf(one), logOf(two)]).toEqual([expected, expected]);
          expect(await runner.runs.get(run.id, alice)).toMatchObject({ state: 3, output: { files: [{ path: 'result', size: 2 }] } });
          await until(async () => (await suite.db.knex('runner_event').where({ run_id: run.id })).length === 0);
          const zip = await readZip(await buffer(await runner.runs.download(run.id, alice)));
          expect(zip.entries.map(({ path }) => path).sort()).toEqual(
            [`code/${file}`, 'code/more/docs/notes.txt', 'code/run.sh', 'out/result', 'run.log'].sort(),
          );
          for (const { path, open } of zip.entries) {
            if (path === 'run.log') expect(await textOf(await open())).toBe(expected);
            if (path === 'out/result') expect(await textOf(await open())).toBe('42');
          }
          zip.close();
        },
      );

      it('a run waits with its message while no slot is free: nobody takes it, and nobody gives it back', async () => {
        const name = own();
        const runner = suite.runner({
          queue: rabbitQueue({ url, name, logger: silentLogger }),
          executor: localSandbox(),
          pools: { tiny: { slots: 1 } },
        });
        await runner.worker({ sweep: '1h' }).start();
        const first = await submit(runner, 'import time; print(1, flush=True); time.sleep(0.6)');
        for await (const event of runner.runs.events(first.id, { ...alice, signal: AbortSignal.timeout(20_000) }))
          if (event.type === 'log') break;
        const others = [];
        for (let i = 0; i < 5; i++) others.push(await submit(runner, 'print(2)', { priority: i }));
        // The consumer is gone, so they stay where they are, ready: none redelivered, none dead.
        await until(async () => (await depth(`${name}.tiny`)) >= 4);
        expect((await channel.checkQueue(`${name}.tiny`)).consumerCount).toBe(0);
        for (const { id } of others) await eventsOf(runner, id);
        await until(async () => (await depth(`${name}.tiny`)) === 0);
        expect(await depth(`${name}.dead`)).toBe(0);
      });

      it('a message nobody can be given is made room for again; where that does not help, the run fails as PUBLISH, and somebody is told', async () => {
        const name = own();
        const runner = suite.runner({ queue: rabbitQueue({ url, name, logger: silentLogger }) });
        const one = await submit(runner, 'print(1)');
        expect(await depth(`${name}.small`)).toBe(1);
        await channel.deleteQueue(`${name}.small`);
        await submit(runner, 'print(1)');
        expect(await depth(`${name}.small`)).toBe(1);
        const told: string[] = [];
        const lost = suite.runner({
          queue: () => ({
            name: 'a queue that is gone',
            send: async (signals) => signals.map(() => 'unroutable'),
            listen: async () => ({ want: () => undefined, close: async () => undefined }),
            probe: async () => undefined,
            close: async () => undefined,
          }),
        });
        lost.events.on('queue:unroutable', ({ runId }) => told.push(runId));
        const gone = await submit(lost, 'print(1)');
        expect(await lost.runs.get(gone.id, alice)).toMatchObject({ state: 4, reason: 'PUBLISH' });
        expect(told).toEqual([gone.id]);
        for (const { id } of await runner.runs.list(alice)) await runner.runs.terminate(id, alice).catch(() => undefined);
        expect(one.state).toBe(1);
      });

      it('dead letters fail only runs that still wait; messages of nobody are dropped', async () => {
        const name = own();
        const runner = suite.runner({
          queue: rabbitQueue({ url, name, logger: silentLogger }),
          executor: localSandbox(),
          pools: { tiny: { slots: 1 } },
        });
        const waiting = await submit(runner, 'print(1)');
        // As a policy of an operator's would do: the queue's messages are too old.
        const taken = await channel.get(`${name}.tiny`, { noAck: false });
        if (taken === false) throw new Error('the message is in the queue');
        channel.nack(taken, false, false);
        channel.publish(`${name}.dlx`, '', Buffer.from('no json'));
        channel.publish(`${name}.dlx`, '', Buffer.from('{"runId":"999999"}'));
        channel.publish(`${name}.dlx`, '', Buffer.from('{"runId":"x"}'));
        await until(async () => (await depth(`${name}.dead`)) === 4);
        // A slot that is taken: the run waits, and only its message's death reaches it.
        await suite.db.knex('holdfast_slot').where({ scope: 'runner/tiny' }).delete();
        await suite.db.knex('holdfast_slot').insert({ scope: 'runner/tiny', slot: 1, holder: 'somebody' });
        await runner.worker({ sweep: '1h' }).start();
        const events = await eventsOf(runner, waiting.id);
        expect(events.at(-1)).toMatchObject({ phase: 'terminal', reason: 'PUBLISH' });
        await until(async () => (await depth(`${name}.dead`)) === 0);
        await suite.db.knex('holdfast_slot').where({ scope: 'runner/tiny' }).delete();
      });

      it('a cut connection costs time, no run', async () => {
        const target = new URL(url);
        const proxy = await tcpProxy({ host: target.hostname, port: Number(target.port) });
        try {
          const name = own();
          const through = `amqp://${target.username}:${target.password}@127.0.0.1:${proxy.port}`;
          const runner = suite.runner({
            queue: rabbitQueue({ url: through, name, publishTimeoutMs: 300, logger: silentLogger }),
            executor: localSandbox(),
          });
          await runner.worker({ sweep: 200 }).start();
          proxy.reset();
          const during = await submit(runner, 'print(1)');
          await eventsOf(runner, during.id);
          const after = await submit(runner, 'print(2)');
          expect(logOf(await eventsOf(runner, after.id))).toBe('2\n');
        } finally {
          await proxy.close();
        }
      });
    },
    ['postgres'],
  );

  it('an address where nobody is says so', async () => {
    const queue = rabbitQueue({ url: 'amqp://127.0.0.1:9', logger: silentLogger })({
      send: () => undefined,
      listen: () => () => undefined,
    });
    await expect(queue.probe()).rejects.toThrow(/RabbitMQ can't be reached at 127.0.0.1:9.*Check the address/);
    await queue.close();
  });
});
