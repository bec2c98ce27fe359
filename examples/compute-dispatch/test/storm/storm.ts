import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { seededRandom, until } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { kafka } from '../../../../tooling/services/kafka.ts';
import { mariadb } from '../../../../tooling/services/mariadb.ts';
import { mysql } from '../../../../tooling/services/mysql.ts';
import { postgres } from '../../../../tooling/services/postgres.ts';
import { rabbitmq } from '../../../../tooling/services/rabbitmq.ts';
import { type ScratchServer, scratchServer } from '../../../../tooling/services/scratch.ts';
import type { BatchView, SlotView } from '../../src/batches/views.ts';
import { derivedKey, openKnex, readConfig } from '../../src/config.ts';
import { Invariants, type TrueLease, type Verdict } from '../../src/invariants.ts';
import { httpAdapter } from '../../src/room/http-adapter.ts';
import type { Misbehaviour } from '../../src/room/simulator/misbehaviour.ts';
import { Member } from './fleet.ts';

const secret = 's'.repeat(32);
const roomToken = 'storm-token-of-the-room';
const tenants = ['north', 'south'] as const;

const bad: Partial<Misbehaviour> = {
  losePercent: 5,
  duplicatePercent: 25,
  delayMs: 2_500,
  lostAnswerPercent: 5,
  refusePercent: 4,
  failOnPercent: 6,
  failOffPercent: 6,
  crashPercentPerMinute: 20,
  switchMs: 150,
};
const good: Partial<Misbehaviour> = {
  losePercent: 0,
  lostAnswerPercent: 0,
  refusePercent: 0,
  failOnPercent: 0,
  failOffPercent: 0,
  crashPercentPerMinute: 0,
};

const databases = { postgres, mysql, mariadb } as const;

export interface StormOptions {
  readonly database: keyof typeof databases;
  readonly seed: number;
  readonly seconds: number;
  readonly workers: number;
  /** Machines of the room. The fewer there are, the sooner each is leased again, and the more late events meet another epoch. Default 80. */
  readonly machines?: number;
  /** Loaded into each process of the service. */
  readonly hook?: string;
  /** True if servers are killed, besides the service's own processes. */
  readonly servers: boolean;
  /** True if all must come to rest before it is checked; a service that is broken on purpose may never. */
  readonly rest: boolean;
}

type Fault = readonly [what: string, make: () => Promise<void>];

export interface StormResult {
  readonly verdicts: readonly Verdict[];
  /** Orders that were answered 202, and the ids that were answered. */
  readonly acknowledged: ReadonlyMap<string, ReadonlySet<string>>;
  readonly counts: Record<string, number>;
  /** Orders of which no batch, or more than one id, is known. */
  readonly lost: readonly string[];
  readonly lateResults: number;
  readonly stillLeased: number;
}

/**
 * Customers order, cancel and give back, while processes of the service are killed, frozen and ended, its database and brokers are killed,
 * and the room loses, repeats, delays and forgets. Then all is given back, and what must hold is asked of the tables, of the room, and of
 * what the customers were answered. Everything that is done follows from the seed; when it happens, from the machine.
 */
export class Storm {
  readonly #options: StormOptions;
  readonly #random: () => number;
  readonly #acknowledged = new Map<string, Set<string>>();
  readonly #batches: { readonly tenant: string; readonly id: string }[] = [];
  readonly #counts: Record<string, number> = {};
  #servers: ScratchServer[] = [];
  #members: Member[] = [];
  #room: Member | undefined;
  #receiver: Server | undefined;
  #invoiceSchemas: string[] = [];
  #heard = 0;
  #over = false;

  constructor(options: StormOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  /** A schema on Postgres is a database on MySQL and MariaDB. */
  #addressOf(server: string, schema: string): string {
    const url = new URL(server);
    if (this.#options.database === 'postgres') url.searchParams.set('schema', schema);
    else url.pathname = schema;
    return url.href;
  }

  async #create(server: string, schema: string): Promise<void> {
    const knex = openKnex(readConfig({ DISPATCH_DATABASE_URL: server }));
    await knex.raw('CREATE SCHEMA IF NOT EXISTS ??', [schema]);
    await knex.destroy();
  }

  async run(): Promise<StormResult> {
    const [database, broker, queue] = [
      await scratchServer(databases[this.#options.database], `${this.#options.database}-storm`),
      await scratchServer(kafka, 'kafka-storm'),
      await scratchServer(rabbitmq, 'rabbitmq-storm'),
    ];
    this.#servers = [database, broker, queue];
    const schema = `storm_${process.pid}_${this.#options.seed}_${Math.trunc(performance.now())}`;
    this.#invoiceSchemas = [`${schema}_invoices_1`, `${schema}_invoices_2`];
    const receiver = await this.#startReceiver();
    const env = {
      DISPATCH_DATABASE_URL: this.#addressOf(database.url, schema),
      DISPATCH_BROKER_URL: `kafka://${broker.url}`,
      DISPATCH_RUN_QUEUE_URL: queue.url,
      DISPATCH_SECRET: secret,
      DISPATCH_ROOM_TOKEN: roomToken,
      DISPATCH_MACHINES: String(this.#options.machines ?? 80),
      DISPATCH_ROOM_SEED: String(this.#options.seed),
      DISPATCH_ROOM_FAULTS: 'none',
      DISPATCH_EXECUTOR: 'none',
      DISPATCH_BILLING_SECONDS: '1',
      DISPATCH_RECONCILE_SECONDS: '2',
      DISPATCH_SCAN_SECONDS: '5',
      DISPATCH_QUARANTINE_SECONDS: '20',
      DISPATCH_CALLBACK_PORTS: String((receiver.address() as AddressInfo).port),
      DISPATCH_ROLES: 'api,worker,relay',
      PORT: '0',
      LOG_LEVEL: process.env.HOLDFAST_STORM_LOG ?? 'silent',
    };
    await this.#create(database.url, schema);
    const knex = openKnex(readConfig(env));
    try {
      this.#room = new Member(['room', '--port', '0'], env);
      await this.#room.start();
      const roomUrl = `${this.#room.address}/`;
      const hook = this.#options.hook === undefined ? [] : ['--import', this.#options.hook];
      this.#members = Array.from({ length: this.#options.workers }, () => new Member([], { ...env, DISPATCH_ROOM_URL: roomUrl }, hook));
      for (const member of this.#members) await member.start();
      await this.#prepare(knex, receiver);
      await this.#misbehave(roomUrl, bad);
      const customers = tenants.flatMap((tenant) => [this.#customer(tenant), this.#customer(tenant)]);
      const chaos = Promise.all([
        this.#chaos(this.#processFaults()),
        ...(this.#options.servers ? [this.#chaos(this.#serverFaults())] : []),
      ]);
      await new Promise((resolve) => setTimeout(resolve, this.#options.seconds * 1_000));
      this.#over = true;
      await Promise.all([...customers, chaos]);
      await this.#misbehave(roomUrl, good);
      if (this.#options.rest) await this.#rest(knex);
      return await this.#judge(knex, roomUrl);
    } finally {
      this.#over = true;
      await Promise.all(this.#members.map((member) => member.end('SIGTERM')));
      await this.#room?.end('SIGTERM');
      await knex.destroy();
      receiver.closeAllConnections();
      receiver.close();
      for (const server of this.#servers) await server.stop();
    }
  }

  /** How many seconds it took to come to rest, step by step: where a wait grows, something is slow to heal. */
  async #timed(what: string, step: Promise<unknown>): Promise<void> {
    const started = performance.now();
    await step;
    this.#counts[`s until ${what}`] = Math.round((performance.now() - started) / 1_000);
  }

  #count(what: string): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + 1;
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)] as T;
  }

  async #startReceiver(): Promise<Server> {
    this.#receiver = createServer((request, response) => {
      request.resume().on('end', () => {
        this.#heard += 1;
        response.end('success');
      });
    });
    await new Promise<void>((resolve) => this.#receiver?.listen(0, '127.0.0.1', resolve));
    return this.#receiver;
  }

  async #prepare(knex: Knex, receiver: Server): Promise<void> {
    for (const tenant of tenants) {
      await this.#call('PUT', `/v1/tenants/${tenant}`, { maxSlots: 60 }, 'admin');
      const { ApiKeys } = await import('../../src/tenants/api-keys.ts');
      await new ApiKeys(knex).keep(derivedKey(secret, tenant), tenant, 0);
      await this.#call('PUT', '/v1/callback-endpoint', { url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/` }, tenant);
    }
    await until(async () => (await knex('dispatch_machine').first()) !== undefined, { withinMs: 30_000, what: 'the room is known' });
  }

  /** Asks any process; another, when one does not answer: what was asked twice must be done once. */
  // biome-ignore lint/suspicious/noExplicitAny: bodies are what the caller says they are
  async #call<Body = any>(
    method: string,
    path: string,
    body: unknown,
    as: string,
    tries = 200,
  ): Promise<{ readonly status: number; readonly body: Body }> {
    for (let attempt = 1; ; attempt++) {
      const { address } = this.#pick(this.#members);
      try {
        if (address === undefined) throw new Error('not there');
        const response = await fetch(`${address}${path}`, {
          method,
          headers: {
            authorization: `Bearer ${derivedKey(secret, as)}`,
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal: AbortSignal.timeout(8_000),
        });
        const answer = { status: response.status, body: (await response.json()) as Body };
        if (answer.status < 500) return answer;
        this.#count(`answered ${answer.status}`);
      } catch {
        this.#count('not answered');
      }
      if (attempt >= tries) throw new Error(`${method} ${path} was never answered.`);
      await new Promise((resolve) => setTimeout(resolve, 100 + this.#random() * 200));
    }
  }

  async #customer(tenant: string): Promise<void> {
    for (let n = 0; !this.#over; n++) {
      const dice = this.#random();
      if (dice < 0.6) await this.#order(tenant, `${tenant}-${n}-${Math.trunc(this.#random() * 1e9)}`);
      else await this.#steer(tenant, dice);
      await new Promise((resolve) => setTimeout(resolve, this.#random() * 400));
    }
  }

  async #order(tenant: string, businessOrderNo: string): Promise<void> {
    const count = 1 + Math.floor(this.#random() * 12);
    const order = {
      businessOrderNo,
      packageId: this.#random() < 0.8 ? 'standard' : 'graphics',
      count,
      minimum: 1 + Math.floor(this.#random() * count),
      policy: this.#pick(['min_then_fill', 'min_then_fill', 'all_or_nothing', 'best_effort']),
      applyDurationMinutes: this.#pick([0, 0.02, 0.1, 0.2]),
    };
    // Impatient: now and then the same order twice at once.
    const answers = await Promise.all(
      (this.#random() < 0.2 ? [0, 1] : [0]).map(() => this.#call<BatchView>('POST', '/v1/batches', order, tenant)),
    );
    for (const { status, body } of answers) {
      this.#count(`ordered ${status}`);
      if (status !== 202) continue;
      const ids = this.#acknowledged.get(businessOrderNo) ?? new Set();
      if (ids.size === 0) this.#batches.push({ tenant, id: body.id });
      this.#acknowledged.set(businessOrderNo, ids.add(body.id));
    }
  }

  async #steer(tenant: string, dice: number): Promise<void> {
    const own = this.#batches.filter((batch) => batch.tenant === tenant);
    if (own.length === 0) return;
    const { id } = this.#pick(own.slice(-8));
    if (dice < 0.7) this.#count(`cancel ${(await this.#call('POST', `/v1/batches/${id}/cancel`, undefined, tenant)).status}`);
    else if (dice < 0.9) this.#count(`release ${(await this.#call('POST', `/v1/batches/${id}/release`, undefined, tenant)).status}`);
    else {
      const { slots } = (await this.#call<{ slots: SlotView[] }>('GET', `/v1/batches/${id}/slots`, undefined, tenant)).body;
      const slot = slots.find(({ state }) => state === 'RUNNING');
      if (slot) this.#count(`off ${(await this.#call('POST', `/v1/slots/${slot.applyId}/power`, { desired: 'OFF' }, tenant)).status}`);
    }
  }

  #processFaults(): readonly Fault[] {
    return [
      ['worker killed', () => this.#restart('SIGKILL')],
      ['worker frozen', () => this.#pick(this.#members).freeze(2_000 + this.#random() * 12_000)],
      ['worker killed', () => this.#restart('SIGKILL')],
      ['worker ended', () => this.#restart('SIGTERM')],
    ];
  }

  #serverFaults(): readonly Fault[] {
    const [database, broker, queue] = this.#servers as [ScratchServer, ScratchServer, ScratchServer];
    const restart = async (server: ScratchServer): Promise<void> => {
      await server.kill();
      await new Promise((resolve) => setTimeout(resolve, 500 + this.#random() * 1_500));
      await server.start();
    };
    return [
      ['database killed', () => restart(database)],
      ['Kafka killed', () => restart(broker)],
      ['RabbitMQ killed', () => restart(queue)],
    ];
  }

  /** One fault after the other, with a pause between: each once, then any. */
  async #chaos(faults: readonly Fault[]): Promise<void> {
    for (let n = 0; !this.#over; n++) {
      await new Promise((resolve) => setTimeout(resolve, 1_000 + this.#random() * 4_000));
      const [what, make] = faults[n] ?? this.#pick(faults);
      this.#count(what);
      await make();
    }
  }

  async #restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const member = this.#pick(this.#members);
    await member.end(signal);
    await member.start();
  }

  async #misbehave(roomUrl: string, how: Partial<Misbehaviour>): Promise<void> {
    const response = await fetch(`${roomUrl}v1/misbehaviour`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${roomToken}`, 'content-type': 'application/json' },
      body: JSON.stringify(how),
    });
    if (!response.ok) throw new Error(`The room answered ${response.status}.`);
  }

  /** Everything is given back, until nothing is under way any more. */
  async #rest(knex: Knex): Promise<void> {
    // A connection of ours that ended with the server is no answer.
    const zero = async (query: Knex.QueryBuilder): Promise<boolean> =>
      query
        .count({ n: '*' })
        .first()
        .then((row: { n?: unknown } | undefined) => Number(row?.n) === 0)
        .catch(() => false);
    await this.#timed(
      'results',
      until(() => zero(knex('dispatch_batch').whereNull('result')), { withinMs: 120_000, what: 'every batch has its result' }),
    );
    const gaveBack = until(
      async () => {
        for (const { id, tenant } of await knex('dispatch_batch').whereNull('ended_ms').select('id', 'tenant'))
          await this.#call('POST', `/v1/batches/${id}/release`, undefined, String(tenant));
        await new Promise((resolve) => setTimeout(resolve, 2_000));
        return zero(knex('dispatch_batch').whereNull('ended_ms'));
      },
      { withinMs: 120_000, what: 'every batch has ended' },
    );
    await this.#timed(
      'every batch has ended',
      gaveBack.catch(async (error) => {
        throw new Error(`${error.message}: ${JSON.stringify(await this.#stuck(knex))}`);
      }),
    );
    for (const [what, query] of [
      ['every lease is released', () => knex('dispatch_lease').where({ active: 1 })],
      ['every event is folded', () => knex('dispatch_lease').whereNotNull('fold_due_ms')],
      ['every message is published', () => knex('outbox_message')],
      ['every charge has its invoice', () => knex('dispatch_charge').where({ invoiced: 0 })],
      ['every callback is settled', () => knex('notifier_notification').where({ state: 'PENDING' })],
    ] as const)
      await this.#timed(
        what,
        until(() => zero(query()), { withinMs: 180_000, what }),
      );
  }

  /** What keeps batches from their end. */
  async #stuck(knex: Knex): Promise<unknown> {
    const batches = (await knex('dispatch_batch').whereNull('ended_ms').limit(3)).map(({ id }) => id);
    const slots = await knex('dispatch_slot').whereIn('batch_id', batches).whereNotIn('state', ['ENDED', 'EXPIRED']);
    const leases = await knex('dispatch_lease').whereIn('batch_id', batches).where({ active: 1 });
    const ids = leases.map(({ id }) => id);
    const tasks = await knex('compensate_biz')
      .whereNotIn('status', ['SUCCESS'])
      .whereIn('biz_type', ['allocate', 'power', 'release', 'finish'])
      .limit(20);
    return { batches, slots, leases, events: await knex('dispatch_power_event').whereIn('lease_id', ids), tasks };
  }

  /** Where invoices are that nobody has booked. */
  async #unbooked(knex: Knex): Promise<unknown> {
    const drawn: { id: string; mq_state: number }[] = [];
    for (const schema of this.#invoiceSchemas)
      for (let table = 0; table < 4; table++)
        drawn.push(...(await knex.withSchema(schema).table(`invoice_00${table}`).select('id', 'mq_state')));
    const booked = new Set((await knex('billing_usage').select('invoice_id')).map((row) => String(row.invoice_id)));
    const missing = drawn.filter(({ id }) => !booked.has(id));
    return {
      charges: Number((await knex('dispatch_charge').count({ n: '*' }).first())?.n),
      drawn: drawn.length,
      booked: booked.size,
      missing: missing.slice(0, 10),
      inbox: await knex('inbox_message')
        .where({ consumer: 'billing-service' })
        .whereIn(
          'message_id',
          missing.slice(0, 10).map(({ id }) => `invoice-${id}`),
        ),
      parked: await knex('inbox_parked'),
    };
  }

  /** Asks the tables, the room, and what the customers were answered. */
  async #judge(knex: Knex, roomUrl: string): Promise<StormResult> {
    const room = httpAdapter({ url: async () => roomUrl, token: roomToken, logger: silent });
    const truth = (): Promise<readonly TrueLease[]> => truthOf(roomUrl);
    const { createOutbox } = await import('@holdfast/outbox');
    const { topics } = await import('../../src/topics.ts');
    const { Database } = await import('@holdfast/core');
    const [database, outbox] = [new Database({ knex }), createOutbox({ knex, topics, logger: silent })];
    await database.describe();
    const invariants = new Invariants({ knex, database, room, outbox });
    try {
      // The last messages are on their way to those who listen (a consumer of Kafka may take a minute until its partitions are its own again after a
      // kill); the last late events on theirs to be folded.
      const check = async (): Promise<Verdict[]> => invariants.check({ truth: await truth(), quiet: this.#options.rest });
      if (this.#options.rest)
        await until(async () => (await check()).every(({ holds }) => holds), { withinMs: 150_000 }).catch(() => undefined);
      const booked = async (): Promise<boolean> =>
        Number((await knex('billing_usage').count({ n: '*' }).first())?.n) ===
        Number((await knex('dispatch_charge').count({ n: '*' }).first())?.n);
      if (this.#options.rest)
        await this.#timed(
          'every invoice is booked once',
          until(booked, { withinMs: 150_000, what: 'every invoice is booked once' }).catch(async (error) => {
            throw new Error(`${error.message}: ${JSON.stringify(await this.#unbooked(knex))}`);
          }),
        );
      const ids = new Set((await knex('dispatch_batch').select('id')).map(({ id }) => String(id)));
      const lost = [...this.#acknowledged]
        .filter(([, answered]) => answered.size !== 1 || ![...answered].every((id) => ids.has(id)))
        .map(([order]) => order);
      const late = await knex('dispatch_batch')
        .whereRaw('finished_ms > COALESCE(deadline_ms, created_ms) + 60000')
        .whereNot({ result: 'CANCELLED' })
        .count({ n: '*' })
        .first();
      const { machines } = await room.list({ limit: 1_000 });
      this.#counts.batches = ids.size;
      this.#counts.leases = Number((await knex('dispatch_lease').count({ n: '*' }).first())?.n);
      this.#counts['callbacks heard'] = this.#heard;
      this.#counts['events of other epochs'] = Number(
        (await knex('dispatch_power_event').whereNull('lease_id').count({ n: '*' }).first())?.n,
      );
      this.#counts.adjustments = Number((await knex('dispatch_charge').where({ kind: 'adjustment' }).count({ n: '*' }).first())?.n);
      return {
        verdicts: await check(),
        acknowledged: this.#acknowledged,
        counts: this.#counts,
        lost,
        lateResults: Number(late?.n),
        stillLeased: machines.filter(({ lease }) => lease !== null).length,
      };
    } finally {
      await outbox.close();
      await database.close();
    }
  }
}

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

async function truthOf(roomUrl: string): Promise<readonly TrueLease[]> {
  const response = await fetch(`${roomUrl}v1/truth`, { headers: { authorization: `Bearer ${roomToken}` } });
  return ((await response.json()) as { leases: TrueLease[] }).leases;
}
