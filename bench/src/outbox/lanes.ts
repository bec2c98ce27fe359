import { spawn } from 'node:child_process';
import { ack, type Publisher, type PublishResult } from '@holdfast/broker';
import { rabbitmq } from '@holdfast/broker/rabbitmq';
import { coreSchema, laneOf, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, tcpProxy } from '@holdfast/core/testing';
import { createOutbox, outboxSchema, topic } from '@holdfast/outbox';
import { analyze, fill, ourOutbox } from './contestants.ts';
import type { Bench } from './servers.ts';

function at(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Number((sorted[Math.floor((sorted.length - 1) * p)] ?? Number.NaN).toFixed(2));
}

function say(bench: string, unit: string, figures: Readonly<Record<string, number>>, json: boolean): void {
  if (json)
    console.log(
      JSON.stringify({
        bench,
        unit,
        ours: Object.values(figures)[0] ?? null,
        raw: null,
        peers: {},
        vsBestPeer: null,
        vsRaw: null,
        ...figures,
      }),
    );
  else
    console.log(
      `\n${bench}  (${unit})\n ${Object.entries(figures)
        .map(([name, value]) => ` ${name} ${value}`)
        .join('\n ')}`,
    );
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Time from put to the broker's ack in one process, at a low rate and at half of the highest rate. */
export async function latency(db: TestDatabase, bench: Bench, half: number, json: boolean): Promise<void> {
  const outbox = await ourOutbox(db, bench, { keys: 10_000 });
  const relay = outbox.relay();
  const puts = new Map<string, number>();
  const quiet: number[] = [];
  const busy: number[] = [];
  let into = quiet;
  relay.events.on('message:published', ({ id }) => {
    const started = puts.get(id);
    puts.delete(id);
    if (started !== undefined) into.push(performance.now() - started);
  });
  await relay.start();
  await pause(2_000);
  const put = async (n: number): Promise<void> => {
    const started = performance.now();
    const id = `latency-${n}`;
    puts.set(id, started);
    await db.knex.transaction(async (trx) => {
      await outbox.in(trx).put(bench.topic, { k: `k${n % 10_000}`, text: id }, { headers: { 'x-n': String(n) }, id });
    });
  };
  for (let n = 0; n < 500; n++) {
    await put(n);
    await pause(5 + (n % 7));
  }
  await pause(500);
  into = busy;
  const seconds = 8;
  const started = performance.now();
  // Every 20 ms, with many puts per transaction, as in a service under load.
  for (let n = 0; n < half * seconds; ) {
    const due = Math.floor(((performance.now() - started) / 1_000) * half) - n;
    if (due > 0) {
      const batch = Math.min(due, 500);
      const now = performance.now();
      const ids = await outbox.now().putMany(
        bench.topic,
        Array.from({ length: batch }, (_, i) => ({ payload: { k: `k${(n + i) % 10_000}`, text: 'x'.repeat(150) } })),
      );
      for (const { id } of ids) puts.set(id, now);
      n += batch;
    }
    await pause(2);
  }
  await pause(1_000);
  await outbox.close();
  say(
    `outbox-latency/${bench.name}`,
    'ms',
    {
      quietP50: at(quiet, 0.5),
      quietP99: at(quiet, 0.99),
      halfLoadP50: at(busy, 0.5),
      halfLoadP99: at(busy, 0.99),
      halfLoadPerSecond: half,
    },
    json,
  );
}

/** Time from put in this process to the broker's ack to a relay in another. */
export async function latencyAcross(db: TestDatabase, bench: Bench, json: boolean): Promise<void> {
  const outbox = await ourOutbox(db, bench, { keys: 10_000 });
  const child = spawn(
    process.execPath,
    [...process.execArgv, new URL('./relay-process.ts', import.meta.url).pathname, db.address, bench.kind, bench.address, bench.topic],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const puts = new Map<string, number>();
  const quiet: number[] = [];
  let ready = (): void => undefined;
  const there = new Promise<void>((resolve) => {
    ready = resolve;
  });
  let rest = '';
  child.stdout.on('data', (data) => {
    const lines = `${rest}${data}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === 'ready') ready();
      const started = puts.get(line);
      if (started !== undefined) quiet.push(performance.now() - started);
    }
  });
  await there;
  await pause(1_000);
  for (let n = 0; n < 300; n++) {
    const id = `across-${n}`;
    puts.set(id, performance.now());
    await db.knex.transaction((trx) => outbox.in(trx).put(bench.topic, { k: `k${n}`, text: id }, { id }));
    await pause(10 + (n % 9));
  }
  await pause(500);
  child.kill('SIGTERM');
  await outbox.close();
  say(`outbox-latency-across/${bench.name}`, 'ms', { quietP50: at(quiet, 0.5), quietP99: at(quiet, 0.99), published: quiet.length }, json);
}

/** The rate of the other keys while one key in twenty always fails. */
export async function failingKeys(db: TestDatabase, bench: Bench, failing: boolean): Promise<number> {
  const keys = 2_000;
  const n = 50_000;
  let good = 0;
  let finished = (): void => undefined;
  const wanted = Array.from({ length: n }, (_, i) => i % keys).filter((key) => key % 20 !== 0).length;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const publisher: Publisher = {
    prefixPerKey: bench.ours.prefixPerKey,
    publish: async (batch, options) => {
      const bad = (key: string | undefined): boolean => failing && Number(key?.slice(1)) % 20 === 0;
      const fine = batch.filter(({ key }) => !bad(key));
      const results = fine.length > 0 ? await bench.ours.publish(fine, options) : [];
      const byMessage = new Map(fine.map((message, i) => [message, results[i]]));
      const refused: PublishResult = { outcome: 'retriable', error: { name: 'Error', message: 'this key fails' } };
      return batch.map((message) => byMessage.get(message) ?? refused);
    },
    close: async () => undefined,
  };
  const outbox = await ourOutbox(db, { ...bench, ours: Object.assign(publisher, { subscribe: bench.ours.subscribe }) }, { keys });
  await fill(outbox, bench.topic, { n, keys });
  await analyze(db, 'outbox_message');
  await bench.ours.publish([{ id: 'warm', topic: bench.topic, headers: {}, body: new Uint8Array(), contentType: 'text/plain' }]);
  const relay = outbox.relay();
  relay.events.on('message:published', ({ key }) => {
    if (Number(key?.slice(1)) % 20 !== 0 && ++good === wanted) finished();
  });
  const started = performance.now();
  await relay.start();
  await all;
  const rate = wanted / ((performance.now() - started) / 1_000);
  await outbox.close();
  return rate;
}

/** Drains a backlog of `n` messages, made by one statement, to a publisher that acks at once, so that only the table is measured. */
export async function backlog(db: TestDatabase, n: number, json: boolean): Promise<void> {
  await migrate(db.knex, [coreSchema, outboxSchema]);
  const keys = 10_000;
  await db.knex.raw('CREATE TABLE bench_key (k varchar(20), lane integer)');
  for (let from = 0; from < keys; from += 1_000)
    await db.knex('bench_key').insert(Array.from({ length: 1_000 }, (_, i) => ({ k: `k${from + i}`, lane: laneOf(`k${from + i}`, 32) })));
  await db.knex.raw('CREATE INDEX ON bench_key (k)');
  await db.knex.raw(
    `INSERT INTO outbox_message (lane, topic, message_key, message_id, body, content_type, first_put_at) SELECT b.lane, 'backlog', b.k, 'm' || i, convert_to(repeat('x', 150), 'UTF8'), 'text/plain', 0 FROM generate_series(1, ${n}) i JOIN bench_key b ON b.k = 'k' || (i % ${keys})`,
  );
  await analyze(db, 'outbox_message');
  const publisher: Publisher = {
    prefixPerKey: true,
    publish: async (batch) => {
      await new Promise((resolve) => setImmediate(resolve));
      return batch.map(() => ({ outcome: 'acked', at: {} }));
    },
    close: async () => undefined,
  };
  const outbox = createOutbox({ knex: db.knex, publisher, topics: { backlog: topic(anything) }, logger: silentLogger });
  let published = 0;
  const marks: number[] = [];
  const tenth = Math.ceil(n / 10);
  let finished = (): void => undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const relay = outbox.relay();
  const rss = process.memoryUsage().rss;
  let most = rss;
  relay.events.on('message:published', () => {
    published += 1;
    if (published % tenth === 0) {
      marks.push(performance.now());
      most = Math.max(most, process.memoryUsage().rss);
    }
    if (published === n) finished();
  });
  await relay.start();
  const started = performance.now();
  await all;
  const rates = marks.map((mark, i) => Math.round(tenth / ((mark - (marks[i - 1] ?? started)) / 1_000)));
  await outbox.close();
  say(
    'outbox-backlog/postgres',
    'messages/s by tenth of the backlog',
    {
      messages: n,
      first: rates[1] ?? 0,
      last: rates.at(-1) ?? 0,
      least: Math.min(...rates.slice(1)),
      most: Math.max(...rates),
      rssGrowthMiB: Math.round((most - rss) / 2 ** 20),
    },
    json,
  );
}

const anything = {
  '~standard': { version: 1 as const, vendor: 'bench', validate: (value: unknown) => ({ value: value as { k: string; text: string } }) },
};

/** The broker is down for a minute while a service puts 1,000 messages a second. */
export async function outage(db: TestDatabase, url: string, seconds: number, json: boolean): Promise<void> {
  const target = new URL(url);
  const proxy = await tcpProxy({ host: target.hostname, port: Number(target.port) });
  const own = new URL(url);
  own.host = `127.0.0.1:${proxy.port}`;
  const name = `outage-${process.pid}`;
  const broker = rabbitmq({ url: own.href, lanes: 4, logger: silentLogger });
  const reader = rabbitmq({ url, lanes: 4, logger: silentLogger });
  const seen = new Map<string, number[]>();
  const ids = new Set<string>();
  await reader.subscribe([name], { group: name, concurrency: 20 }, async ({ message }) => {
    if (ids.has(message.id)) return ack;
    ids.add(message.id);
    const { n } = JSON.parse(Buffer.from(message.body).toString()) as { n: number };
    const list = seen.get(message.key ?? '');
    if (list) list.push(n);
    else seen.set(message.key ?? '', [n]);
    return ack;
  });
  await migrate(db.knex, [coreSchema, outboxSchema]);
  const outbox = createOutbox({
    knex: db.knex,
    publisher: broker,
    logger: silentLogger,
    topics: { [name]: topic(anything as never, { key: ({ k }: { k: string }) => k }) },
  });
  const relay = outbox.relay();
  await relay.start();
  let n = 0;
  let failed = 0;
  const puts = async (forSeconds: number): Promise<number[]> => {
    const times: number[] = [];
    const started = performance.now();
    const pending = new Set<Promise<void>>();
    for (let sent = 0; sent < forSeconds * 1_000; ) {
      const due = Math.floor(performance.now() - started) - sent;
      for (let i = 0; i < due; i++, sent++) {
        const number = n++;
        const begun = performance.now();
        const one = db.knex
          .transaction((trx) => outbox.in(trx).put(name, { k: `k${number % 500}`, n: number, text: 'x'.repeat(150) } as never))
          .then(
            () => void times.push(performance.now() - begun),
            () => {
              failed += 1;
            },
          )
          .finally(() => pending.delete(one));
        pending.add(one);
      }
      await pause(1);
    }
    await Promise.all(pending);
    return times;
  };
  await puts(3);
  const before = await puts(15);
  global.gc?.();
  const rss = process.memoryUsage().rss;
  proxy.set('refuse');
  proxy.reset();
  let most = rss;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 500);
  const during = await puts(seconds);
  clearInterval(watch);
  const { dead, heldKeys, unsent } = await outbox.stats();
  proxy.set('none');
  const back = performance.now();
  while (ids.size < n && performance.now() - back < 120_000) await pause(100);
  let outOfOrder = 0;
  for (const list of seen.values()) for (let i = 1; i < list.length; i++) if ((list[i] ?? 0) < (list[i - 1] ?? 0)) outOfOrder += 1;
  say(
    'outbox-outage/rabbitmq',
    'a broker away at 1,000 puts/s',
    {
      seconds,
      puts: n,
      failed,
      putP99BeforeMs: at(before, 0.99),
      putP99DuringMs: at(during, 0.99),
      ratio: Number((at(during, 0.99) / at(before, 0.99)).toFixed(2)),
      rssGrowthMiB: Math.round((most - rss) / 2 ** 20),
      waitingAtItsEnd: unsent,
      heldKeys,
      dead,
      arrived: ids.size,
      outOfOrder,
      secondsToCatchUp: Number(((performance.now() - back) / 1_000).toFixed(1)),
    },
    json,
  );
  await outbox.close();
  await broker.close();
  await reader.close();
  await proxy.close();
}
