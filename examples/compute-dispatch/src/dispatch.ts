import type { Publisher, Subscriber } from '@holdfast/broker';
import { brokerSchema } from '@holdfast/broker/database';
import { codeRunnerSchema } from '@holdfast/code-runner';
import { type BizWorker, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import {
  coreSchema,
  createSnowflake,
  Database,
  defineLoop,
  type GuardedSnowflake,
  LeaseTable,
  type Logger,
  type Loop,
  leaderLoop,
  migrate,
  type Service,
  type Snowflake,
  snowflakeFrom,
  uuidv7,
  type Waker,
} from '@holdfast/core';
import { type EgressOptions, notifierSchema } from '@holdfast/notifier';
import { createOutbox, type Outbox, outboxSchema, type Relay } from '@holdfast/outbox';
import { scanSchema } from '@holdfast/sharded-scan';
import { createExecutor, type Executor, type ExecutorOptions } from '@holdfast/xxl-job';
import type { Knex } from 'knex';
import { assetService } from './asset-service.ts';
import { Accept } from './batches/accept.ts';
import { Advance } from './batches/advance.ts';
import { LeaseWork } from './batches/lease-work.ts';
import { BatchReader, viewOf } from './batches/reader.ts';
import { SnowflakeId } from './batches/snowflake-id.ts';
import { Steer } from './batches/steer.ts';
import type { ApplyRequest, BatchView } from './batches/views.ts';
import { billingService } from './billing-service.ts';
import { Callbacks } from './callbacks.ts';
import { Catalogue } from './catalogue.ts';
import { Feed } from './feed.ts';
import { Invariants } from './invariants.ts';
import { Invoices } from './invoices.ts';
import { Folder } from './power/folder.ts';
import { PowerEvents } from './power/power-events.ts';
import { Reconcile, type SweepCounts } from './reconcile.ts';
import type { DispatchAdapter } from './room/adapter.ts';
import { dispatchSchema } from './schema.ts';
import { handleTasks } from './task-handlers.ts';
import { type Biz, tasksOf, taskTypes } from './tasks.ts';
import { ApiKeys } from './tenants/api-keys.ts';
import { Tenants } from './tenants/tenants.ts';
import { Timeline } from './timeline.ts';
import { topics } from './topics.ts';

type XxlOptions = Pick<ExecutorOptions, 'admins' | 'accessToken' | 'port'>;

/** The roles of a process: `api` answers requests, `worker` does the work, `relay` publishes messages and sends callbacks. */
export const roles = ['api', 'worker', 'relay'] as const;
export type Role = (typeof roles)[number];

export interface DispatchOptions {
  readonly knex: Knex;
  readonly logger: Logger;
  readonly broker: Publisher & Subscriber;
  readonly room: DispatchAdapter;
  /** Default all. */
  readonly roles?: ReadonlySet<Role>;
  /** The secret from which the keys of callbacks are derived. */
  readonly secret: string;
  /** The addresses that callbacks may call. */
  readonly egress: EgressOptions;
  /** The two databases of invoices. */
  readonly invoiceDatabases: readonly [Knex, Knex];
  /** The running time that one line of a bill covers, in ms. Default a minute. */
  readonly billingMs?: number;
  /** Ms between scans for invoices that were not sent. Default two minutes. */
  readonly scanMs?: number;
  /** Ms between comparisons with the room's list. Default a minute. */
  readonly reconcileMs?: number;
  /** Ms after which a machine is free even if its room has not confirmed the release. Default ten minutes. */
  readonly quarantineMs?: number;
  /** See {@link Invoices}. Default 0. */
  readonly losePercent?: number;
  /** Slots of a tenant that is made without a quota. Default 10,000. */
  readonly quota?: number;
  /** Wakes other processes. Default: by the database, where it can notify. */
  readonly waker?: Waker | undefined;
  /** If given, an xxl-job admin triggers the timers. */
  readonly xxl?: XxlOptions | undefined;
}

/** The service without its HTTP face. */
export class Dispatch {
  readonly knex: Knex;
  readonly database: Database;
  readonly logger: Logger;
  readonly biz: Biz;
  readonly outbox: Outbox<typeof topics>;
  readonly callbacks: Callbacks;
  readonly invoices: Invoices;
  readonly catalogue: Catalogue;
  readonly tenants: Tenants;
  readonly keys: ApiKeys;
  readonly feed: Feed;
  readonly powerEvents: PowerEvents;
  readonly timeline: Timeline;
  readonly reader: BatchReader;
  readonly steer: Steer;
  readonly invariants: Invariants;
  readonly room: DispatchAdapter;
  readonly #accept: Accept;
  readonly #reconcile: Reconcile;
  readonly #folder: Loop<number>;
  readonly #ids: Snowflake;
  readonly #applyIds: GuardedSnowflake;
  readonly #worker: BizWorker;
  readonly #relay: Relay;
  /** Other services, which run in this process for the demonstration. */
  readonly #others: readonly { start(): Promise<void>; stop(): Promise<void> }[];
  readonly #timers: readonly Service[];
  readonly #xxl: Executor | undefined;
  readonly #broker: Publisher & Subscriber;
  readonly #roles: ReadonlySet<Role>;
  #consuming: Promise<unknown> | undefined;
  #ready = false;
  #stopping = false;

  private constructor(
    options: DispatchOptions,
    database: Database,
    leases: LeaseTable,
    { ids, applyIds }: { readonly ids: Snowflake; readonly applyIds: GuardedSnowflake },
    invoices: Invoices,
  ) {
    const { knex, broker, room, logger } = options;
    this.knex = knex;
    this.database = database;
    this.logger = logger;
    this.invoices = invoices;
    this.room = room;
    this.#roles = options.roles ?? new Set(roles);
    this.#ids = ids;
    this.#applyIds = applyIds;
    this.#broker = broker;
    const waker = options.waker ? { waker: options.waker } : {};
    this.biz = createCompensateBiz({ knex, types: taskTypes, logger, ...waker });
    this.outbox = createOutbox({ knex, topics, publisher: broker, logger, ...waker });
    this.callbacks = new Callbacks({ knex, secret: options.secret, egress: options.egress, logger, ...waker });
    this.catalogue = new Catalogue(knex);
    this.tenants = new Tenants(knex, options.quota ?? 10_000);
    this.keys = new ApiKeys(knex);
    this.reader = new BatchReader(knex);
    this.feed = new Feed(knex, database, broker, logger);
    this.timeline = new Timeline(knex, this.feed, invoices);
    this.#relay = this.outbox.relay();
    this.powerEvents = new PowerEvents({ knex, database, broker, logger, onStored: () => this.#folder.wake() });
    this.#others = [assetService(knex, broker, logger), billingService(knex, broker, logger)];
    const tasks = tasksOf(this.biz);
    const parts = {
      knex,
      database,
      ids,
      applyIds,
      room,
      tasks,
      logger,
      outbox: this.outbox,
      callbacks: this.callbacks,
      catalogue: this.catalogue,
    };
    this.#accept = new Accept(parts);
    this.steer = new Steer(parts);
    this.#reconcile = new Reconcile(parts);
    const folder = new Folder({ ...parts, billingMs: options.billingMs ?? 60_000 });
    this.#folder = defineLoop({ name: 'fold', logger, runOnce: () => folder.fold(), busy: (count) => count > 0, minMs: 20, maxMs: 250 });
    this.invariants = new Invariants({ knex, database, room, outbox: this.outbox });
    handleTasks(this.biz, new Advance(parts), new LeaseWork({ ...parts, quarantineMs: options.quarantineMs ?? 600_000 }));
    this.#worker = this.biz.worker({ lease: '10s' });
    const { reconcileMs = 60_000, scanMs = 120_000, xxl } = options;
    // Runs in one process at a time.
    const timer = (name: string, everyMs: number, run: (signal: AbortSignal) => Promise<unknown>): Service =>
      leaderLoop({ table: leases, name, owner: uuidv7(), everyMs, leaseMs: 10_000, logger, run: ({ signal }) => run(signal) });
    this.#timers = [
      timer('invoices', 1_000, async () => {
        while ((await invoices.draw(await database.now())) === 500);
      }),
      // A job that an admin triggers has no timer besides.
      ...(xxl
        ? []
        : [
            timer('invoice scan', scanMs, (signal) => invoices.sendUnsent('1,2', signal)),
            timer('reconcile', reconcileMs, (signal) => this.reconcile(signal)),
          ]),
    ];
    this.#xxl =
      xxl &&
      createExecutor({
        ...xxl,
        appName: 'compute-dispatch',
        handlers: {
          invoiceScanJobHandler: (parameter, { log, signal }) => invoices.sendUnsent(parameter, signal, log),
          reconcileJobHandler: async (_parameter, { log, signal }) => log(JSON.stringify(await this.reconcile(signal))),
          reapplyJobHandler: async (_parameter, { log }) => log(JSON.stringify(await this.biz.sweep())),
          callbackCompensationJobHandler: async (_parameter, { log }) => log(`${await this.callbacks.notifier.compensate()} were overdue`),
        },
        logger,
      });
  }

  /** Migrates the tables and creates the parts. Nothing runs before {@link start}. */
  static async open(options: DispatchOptions): Promise<Dispatch> {
    const { knex, logger } = options;
    await Dispatch.migrate(knex);
    const database = new Database({ knex });
    await database.describe();
    const leases = new LeaseTable(database);
    const { invoiceDatabases, losePercent = 0, broker } = options;
    const invoices = await Invoices.open({ databases: invoiceDatabases, state: knex, publisher: broker, losePercent, logger });
    const ids = await createSnowflake({ leases });
    const applyIds = await snowflakeFrom((mid, offset) => new SnowflakeId({ mid, offset }), { leases });
    const dispatch = new Dispatch(options, database, leases, { ids, applyIds }, invoices);
    await dispatch.catalogue.seed(await database.now());
    return dispatch;
  }

  static async migrate(knex: Knex): Promise<void> {
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
  }

  async start(): Promise<void> {
    const worker = this.#roles.has('worker');
    if (this.#roles.has('relay')) await this.callbacks.start();
    if (worker) {
      await this.#worker.start();
      await this.#folder.start();
      for (const timer of this.#timers) await timer.start();
      await this.#xxl?.start();
    }
    // The start does not wait for a broker: messages wait in the outbox. Consumers subscribe first, since RabbitMQ drops messages
    // to which no queue is bound.
    const consumers = worker ? [...this.#others.map((other) => other.start()), this.feed.start(), this.powerEvents.start()] : [];
    this.#consuming = Promise.all(consumers).then(
      async () => {
        if (this.#stopping) return;
        if (this.#roles.has('relay')) await this.#relay.start();
        this.#ready = true;
      },
      (err) => this.logger.error({ err }, 'messages cannot be consumed'),
    );
  }

  /** True if messages are consumed and published. If not, the service still accepts orders and allocates machines. */
  get ready(): boolean {
    return this.#ready && (!this.#roles.has('relay') || this.#relay.ready);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#xxl?.stop();
    await Promise.all(this.#timers.map((timer) => timer.stop()));
    await this.#folder.stop();
    await this.invoices.stop();
    await this.#worker.stop();
    await this.#relay.stop();
    await this.#broker.close();
    await this.#consuming;
    await this.callbacks.stop();
    await this.feed.stop();
    await Promise.all(this.#others.map((other) => other.stop()));
    await this.powerEvents.stop();
    await this.outbox.close();
    await this.biz.close();
    await this.#applyIds.stop();
    await this.#ids.stop();
    await this.database.close();
  }

  /**
   * Accepts an order. The same request again gives the same batch; another body under the same order number is refused.
   * @throws DispatchError
   */
  async apply(tenant: string, request: ApplyRequest): Promise<{ readonly batch: BatchView; readonly created: boolean }> {
    const { id, created } = await this.#accept.apply(tenant, request);
    const batch = created ? viewOf(created, { WANTED: request.count }) : await this.reader.batch(tenant, id);
    if (!batch) throw new Error(`batch ${id} vanished`);
    return { batch, created: created !== undefined };
  }

  /** Compares the service's leases with the room's list, now. */
  reconcile(signal?: AbortSignal): Promise<SweepCounts> {
    return this.#reconcile.sweep(signal);
  }

  /** Counts of pending work, and of messages that were published and received. */
  async figures(): Promise<Readonly<Record<string, number>>> {
    const { unsent, heldKeys, dead } = await this.outbox.stats();
    const count = async (table: string): Promise<number> => Number((await this.knex(table).count({ n: '*' }).first())?.n);
    const callbacks = await this.callbacks.notifier.stats();
    const invoices = await this.invoices.count();
    return {
      unsent,
      held: heldKeys,
      dead,
      powerEvents: await count('dispatch_power_event'),
      assetLeases: Number((await this.knex('asset_lease').where({ active: 1 }).count({ n: '*' }).first())?.n),
      callbacksPending: callbacks.pending,
      callbacksGivenUp: callbacks.exhausted,
      invoicesDrawn: invoices.drawn,
      invoicesUnsent: invoices.unsent,
      invoicesBooked: await count('billing_usage'),
    };
  }
}
