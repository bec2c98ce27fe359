import { createHash } from 'node:crypto';
import type { Publisher, Subscriber } from '@holdfast/broker';
import { brokerSchema } from '@holdfast/broker/database';
import { codeRunnerSchema } from '@holdfast/code-runner';
import { bizType, type CompensateBiz, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import {
  coreSchema,
  createSnowflake,
  Database,
  every,
  LeaseTable,
  type Logger,
  leaderLoop,
  migrate,
  type Service,
  type Snowflake,
  uuidv7,
} from '@holdfast/core';
import { type EgressOptions, notifierSchema } from '@holdfast/notifier';
import { createInbox, createOutbox, type Inbox, type Outbox, outboxSchema, type Relay } from '@holdfast/outbox';
import { scanSchema } from '@holdfast/sharded-scan';
import { createExecutor, type Executor, type ExecutorOptions } from '@holdfast/xxl-job';
import type { Knex } from 'knex';
import { z } from 'zod';
import { allocateOnce } from './allocate.ts';
import { AssetService } from './asset-service.ts';
import { BillingService } from './billing-service.ts';
import { openBroker } from './broker.ts';
import { Callbacks } from './callbacks.ts';
import { Invoices } from './invoices.ts';
import { meter } from './meter.ts';
import { packages } from './packages.ts';
import { recordPower, switchOn } from './power.ts';
import { Problem } from './problem.ts';
import { seedRoom, stirRoom } from './room.ts';
import { dispatchSchema } from './schema.ts';
import { Timeline } from './timeline.ts';
import { powerTopic, topics } from './topics.ts';

export const applyRequest = z.object({
  businessOrderNo: z.string().min(1).max(100),
  packageId: z.string().min(1).max(40),
  count: z.number().int().min(1).max(1000),
  minimum: z.number().int().min(1).max(1000).default(1),
  /** How long what could not be granted is applied for again. Absent or 0: the first pass decides. */
  applyDurationMinutes: z.number().min(0).max(10_080).nullish(),
  /** The same as an absolute time, ISO 8601. */
  deadline: z.iso.datetime({ offset: true }).nullish(),
});
export type ApplyRequest = z.infer<typeof applyRequest>;

export const batchView = z.object({
  id: z.string(),
  businessOrderNo: z.string(),
  packageId: z.string(),
  count: z.number(),
  minimum: z.number(),
  state: z.enum(['ACCEPTED', 'FILLING', 'FULFILLED', 'PARTIAL', 'FAILED']),
  granted: z.number(),
  deadline: z.string().nullable(),
  createdAt: z.string(),
  finishedAt: z.string().nullable(),
});
export type BatchView = z.infer<typeof batchView>;

export const slotView = z.object({
  applyId: z.string(),
  batchId: z.string(),
  state: z.enum(['WANTED', 'GRANTED', 'EXPIRED']),
  machineId: z.string().nullable(),
  /** What the room last said of the machine. */
  power: z.enum(['ON', 'OFF']).nullable(),
  grantedAt: z.string().nullable(),
});
export type SlotView = z.infer<typeof slotView>;

const types = {
  // The retry never ends: a batch must reach its final state however long the database is away.
  allocate: bizType(z.object({ batchId: z.string() }), { concurrency: 8, retry: every('2s'), serial: true, timeout: '30s' }),
};

type XxlOptions = Pick<ExecutorOptions, 'admins' | 'accessToken' | 'port'>;

/** The service without its HTTP face. */
export class Dispatch {
  readonly knex: Knex;
  readonly biz: CompensateBiz<typeof types>;
  readonly outbox: Outbox<typeof topics>;
  readonly timeline: Timeline;
  readonly callbacks: Callbacks;
  readonly invoices: Invoices;
  readonly #ids: Snowflake;
  readonly #worker: Service;
  readonly #relay: Relay;
  readonly #inbox: Inbox;
  readonly #assets: AssetService;
  readonly #billing: BillingService;
  readonly #timers: readonly Service[];
  readonly #xxl: Executor | undefined;
  readonly #broker: Publisher & Subscriber;
  readonly #database: Database;
  #consuming: Promise<void> | undefined;
  #ready = false;
  #stopping = false;

  private constructor(parts: {
    readonly knex: Knex;
    readonly ids: Snowflake;
    readonly database: Database;
    readonly leases: LeaseTable;
    readonly broker: Publisher & Subscriber;
    readonly callbacks: Callbacks;
    readonly invoices: Invoices;
    readonly billingMs: number;
    readonly scanMs: number;
    readonly xxl: XxlOptions | undefined;
    readonly logger: Logger;
  }) {
    const { knex, database, broker, callbacks, invoices, logger } = parts;
    this.callbacks = callbacks;
    this.invoices = invoices;
    this.knex = knex;
    this.#ids = parts.ids;
    this.#database = database;
    this.#broker = broker;
    this.biz = createCompensateBiz({ knex, types, logger });
    this.outbox = createOutbox({ knex, topics, publisher: broker, logger });
    this.#relay = this.outbox.relay();
    this.#inbox = createInbox({ knex, logger });
    this.#assets = new AssetService(knex, broker, logger);
    this.#billing = new BillingService(knex, broker, logger);
    this.timeline = new Timeline(knex, broker, logger);
    // In one of the processes at a time.
    const timer = (name: string, everyMs: number, run: (signal: AbortSignal) => Promise<unknown>): Service =>
      leaderLoop({ table: parts.leases, name, owner: uuidv7(), everyMs, logger, run: ({ signal }) => run(signal) });
    this.#timers = [
      timer('room', 1_000, async () => {
        await stirRoom(knex);
        await switchOn(knex, broker, await database.now());
      }),
      timer('meter', 1_000, async () => meter(knex, invoices, await database.now(), parts.billingMs)),
      // What an admin triggers is not triggered by a timer too.
      ...(parts.xxl ? [] : [timer('invoice scan', parts.scanMs, (signal) => invoices.sendUnsent('1,2', signal))]),
    ];
    this.#xxl =
      parts.xxl &&
      createExecutor({
        ...parts.xxl,
        appName: 'compute-dispatch',
        handlers: {
          invoiceScanJobHandler: (parameter, { log, signal }) => invoices.sendUnsent(parameter, signal, log),
        },
        logger,
      });
    const { biz, outbox } = this;
    biz.handle('allocate', async ({ batchId }, run) => {
      // Asked before the transaction: SQLite has one connection, and the transaction holds it.
      const nowMs = await database.now();
      return run.commit(async (trx) => {
        const next = await allocateOnce(trx, { outbox, callbacks }, batchId, nowMs);
        if (next !== undefined) await biz.in(trx).submit('allocate', { batchId }, { bizId: batchId, delay: next, tenant: run.tenant });
      });
    });
    this.#worker = biz.worker({ lease: '10s' });
  }

  /** Brings the tables up to date, fills the room, and makes the parts. Nothing runs before {@link start}. */
  static async open(options: {
    readonly knex: Knex;
    readonly machines: number;
    readonly logger: Logger;
    /** `kafka://…`, `amqp://…`, or nothing for a table. */
    readonly brokerUrl?: string | undefined;
    /** What the keys of callbacks are derived from. */
    readonly secret: string;
    /** What callbacks may call. */
    readonly egress: EgressOptions;
    /** Where invoices lie. */
    readonly invoiceDatabases: readonly [Knex, Knex];
    /** Ms of running that one invoice is for. Default a minute. */
    readonly billingMs?: number;
    /** Ms between scans for invoices that were not sent. Default two minutes. */
    readonly scanMs?: number;
    /** See {@link Invoices}. Default 0. */
    readonly losePercent?: number;
    /** With it, an xxl-job admin triggers the scan. */
    readonly xxl?: XxlOptions | undefined;
  }): Promise<Dispatch> {
    const { knex, logger } = options;
    await migrate(knex, [
      coreSchema,
      compensateBizSchema,
      outboxSchema,
      brokerSchema,
      notifierSchema,
      scanSchema,
      codeRunnerSchema,
      dispatchSchema,
    ]);
    const database = new Database({ knex });
    await database.describe();
    await seedRoom(knex, options.machines);
    const leases = new LeaseTable(database);
    const broker = await openBroker(options.brokerUrl, knex, logger);
    const callbacks = new Callbacks({ knex, secret: options.secret, egress: options.egress, logger });
    const { invoiceDatabases, billingMs = 60_000, scanMs = 120_000, losePercent = 0, xxl } = options;
    const invoices = await Invoices.open({ databases: invoiceDatabases, state: knex, publisher: broker, losePercent, logger });
    const ids = await createSnowflake({ leases });
    return new Dispatch({ knex, database, leases, broker, callbacks, invoices, billingMs, scanMs, xxl, logger, ids });
  }

  async start(): Promise<void> {
    await this.#worker.start();
    await this.callbacks.start();
    // A broker that is not there yet holds nothing up: messages wait in the outbox. Consumers join first, since RabbitMQ has no place
    // for what nobody has asked for.
    this.#consuming = Promise.all([
      this.#assets.start(),
      this.#billing.start(),
      this.timeline.start(),
      this.#inbox.consume({
        subscriber: this.#broker,
        topic: powerTopic,
        consumer: 'dispatch',
        handler: (message, trx) => recordPower(this, message, trx),
      }),
    ]).then(
      async () => {
        if (this.#stopping) return;
        await this.#relay.start();
        this.#ready = true;
      },
      () => undefined,
    );
    for (const timer of this.#timers) await timer.start();
    await this.#xxl?.start();
  }

  /** Whether messages come in and go out. Without it the service accepts and allocates all the same. */
  get ready(): boolean {
    return this.#ready && this.#relay.ready;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#xxl?.stop();
    await Promise.all(this.#timers.map((timer) => timer.stop()));
    await this.invoices.stop();
    await this.#worker.stop();
    await this.#relay.stop();
    await this.#broker.close();
    await this.#consuming;
    await this.callbacks.stop();
    await this.timeline.stop();
    await this.#assets.stop();
    await this.#billing.stop();
    await this.#inbox.close();
    await this.outbox.close();
    await this.biz.close();
    await this.#ids.stop();
    await this.#database.close();
  }

  /**
   * Accepts a batch: the batch, its slots and the task that fills it commit together. The same request again gives the
   * same batch; another body under the same order number is refused.
   */
  async apply(tenant: string, request: ApplyRequest): Promise<{ readonly batch: BatchView; readonly created: boolean }> {
    const fingerprint = createHash('sha256')
      .update(JSON.stringify(Object.entries(request).sort()))
      .digest('hex');
    const known = await this.#known(tenant, request.businessOrderNo, fingerprint);
    if (known) return { batch: known, created: false };
    const nowMs = await this.#database.now();
    const deadlineMs = this.#check(request, nowMs);
    const id = this.#ids.next();
    try {
      await this.knex.transaction(async (trx) => {
        const free = await trx('dispatch_machine').where({ package_id: request.packageId, state: 'FREE' }).count({ n: '*' }).first();
        if (Number(free?.n) < request.minimum) {
          throw new Problem(
            409,
            'capacity-below-minimum',
            'Not enough free machines',
            `The room has ${Number(free?.n)} free machines of package ${request.packageId}; the minimum is ${request.minimum}. Lower it or try later: the order number is still free.`,
          );
        }
        await trx('dispatch_batch').insert({
          id,
          tenant,
          business_order_no: request.businessOrderNo,
          fingerprint,
          package_id: request.packageId,
          wanted: request.count,
          minimum: request.minimum,
          state: 'ACCEPTED',
          deadline_ms: deadlineMs,
          created_ms: nowMs,
        });
        const slots = Array.from({ length: request.count }, () => ({ apply_id: this.#ids.next(), batch_id: id, state: 'WANTED' }));
        for (let from = 0; from < slots.length; from += 200) await trx('dispatch_slot').insert(slots.slice(from, from + 200));
        await this.outbox.in(trx).put('dispatch.batch', {
          batchId: id,
          tenant,
          businessOrderNo: request.businessOrderNo,
          state: 'ACCEPTED',
          atMs: nowMs,
        });
        await this.biz.in(trx).submit('allocate', { batchId: id }, { bizId: id, once: id, subject: id, tenant });
      });
    } catch (error) {
      // Somebody else was first with this order number.
      const first = error instanceof Problem ? undefined : await this.#known(tenant, request.businessOrderNo, fingerprint);
      if (!first) throw error;
      return { batch: first, created: false };
    }
    const batch = await this.batch(tenant, id);
    if (!batch) throw new Error(`batch ${id} vanished`);
    return { batch, created: true };
  }

  async batch(tenant: string, id: string): Promise<BatchView | undefined> {
    const row = await this.knex('dispatch_batch').where({ tenant, id }).first();
    return row && this.#view(row);
  }

  /** A page of batches, newest first, before the given id. */
  async batches(tenant: string, limit: number, before?: string): Promise<BatchView[]> {
    const query = this.knex('dispatch_batch').where({ tenant }).orderBy('id', 'desc').limit(limit);
    if (before !== undefined) query.where('id', '<', before);
    return Promise.all((await query).map((row) => this.#view(row)));
  }

  async slots(batchId: string): Promise<SlotView[]> {
    return (await this.knex('dispatch_slot').where({ batch_id: batchId }).orderBy('apply_id')).map(slot);
  }

  async slot(applyId: string): Promise<SlotView | undefined> {
    const row = await this.knex('dispatch_slot').where({ apply_id: applyId }).first();
    return row && slot(row);
  }

  async room(): Promise<{ readonly id: string; readonly packageId: string; readonly state: string }[]> {
    const rows = await this.knex('dispatch_machine as m')
      .leftJoin('dispatch_lease as l', (on) => on.on('l.machine_id', 'm.id').andOnVal('l.active', 1))
      .leftJoin('dispatch_slot as s', 's.apply_id', 'l.apply_id')
      .orderBy('m.id')
      .select('m.id', 'm.package_id', 'm.state', 's.power');
    return rows.map((row) => ({ id: row.id, packageId: row.package_id, state: row.power === 'ON' ? 'RUNNING' : row.state }));
  }

  /** What is on its way, and what others have heard. */
  async messages(): Promise<{
    readonly unsent: number;
    readonly held: number;
    readonly dead: number;
    readonly powerEvents: number;
    readonly assetLeases: number;
    readonly callbacksPending: number;
    readonly callbacksGivenUp: number;
    readonly invoicesDrawn: number;
    readonly invoicesUnsent: number;
    readonly invoicesBooked: number;
  }> {
    const { unsent, heldKeys, dead } = await this.outbox.stats();
    const count = async (table: string): Promise<number> => Number((await this.knex(table).count({ n: '*' }).first())?.n);
    const callbacks = await this.callbacks.notifier.stats();
    const invoices = await this.invoices.count();
    return {
      unsent,
      held: heldKeys,
      dead,
      powerEvents: await count('dispatch_power_event'),
      assetLeases: await count('asset_lease'),
      callbacksPending: callbacks.pending,
      callbacksGivenUp: callbacks.exhausted,
      invoicesDrawn: invoices.drawn,
      invoicesUnsent: invoices.unsent,
      invoicesBooked: await count('billing_usage'),
    };
  }

  #check(request: ApplyRequest, nowMs: number): number | null {
    if (!Object.hasOwn(packages, request.packageId))
      throw new Problem(
        422,
        'unknown-package',
        'Unknown package',
        `There is no package ${JSON.stringify(request.packageId)}; known are ${Object.keys(packages).join(', ')}.`,
      );
    if (request.count < request.minimum)
      throw new Problem(
        422,
        'count-below-minimum',
        'Count below minimum',
        `count is ${request.count} and minimum ${request.minimum}; ask for at least as many as must be granted.`,
      );
    if (request.deadline) {
      const at = Date.parse(request.deadline);
      if (at <= nowMs)
        throw new Problem(
          422,
          'deadline-in-the-past',
          'Deadline in the past',
          `deadline ${request.deadline} is ${Math.round((nowMs - at) / 1000)} s ago.`,
        );
      return at;
    }
    return request.applyDurationMinutes ? nowMs + Math.round(request.applyDurationMinutes * 60_000) : null;
  }

  async #known(tenant: string, businessOrderNo: string, fingerprint: string): Promise<BatchView | undefined> {
    const row = await this.knex('dispatch_batch').where({ tenant, business_order_no: businessOrderNo }).first();
    if (!row) return undefined;
    if (row.fingerprint !== fingerprint) {
      throw new Problem(
        422,
        'order-number-reused',
        'Order number used for another request',
        `Order ${businessOrderNo} is batch ${row.id} already, with another body. Use a new order number, or send the first body again.`,
      );
    }
    return this.#view(row);
  }

  async #view(row: Record<string, unknown>): Promise<BatchView> {
    const granted = await this.knex('dispatch_slot').where({ batch_id: row.id, state: 'GRANTED' }).count({ n: '*' }).first();
    return {
      id: String(row.id),
      businessOrderNo: String(row.business_order_no),
      packageId: String(row.package_id),
      count: Number(row.wanted),
      minimum: Number(row.minimum),
      state: row.state as BatchView['state'],
      granted: Number(granted?.n),
      deadline: time(row.deadline_ms),
      createdAt: time(row.created_ms) ?? '',
      finishedAt: time(row.finished_ms),
    };
  }
}

function slot(row: Record<string, unknown>): SlotView {
  return {
    applyId: String(row.apply_id),
    batchId: String(row.batch_id),
    state: row.state as SlotView['state'],
    machineId: row.machine_id === null ? null : String(row.machine_id),
    power: (row.power ?? null) as SlotView['power'],
    grantedAt: time(row.granted_ms),
  };
}

function time(ms: unknown): string | null {
  return ms === null || ms === undefined ? null : new Date(Number(ms)).toISOString();
}
