import { createHash } from 'node:crypto';
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
import type { Knex } from 'knex';
import { z } from 'zod';
import { allocateOnce } from './allocate.ts';
import { packages } from './packages.ts';
import { Problem } from './problem.ts';
import { seedRoom, stirRoom } from './room.ts';
import { dispatchSchema } from './schema.ts';

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
  grantedAt: z.string().nullable(),
});
export type SlotView = z.infer<typeof slotView>;

const types = {
  // The retry never ends: a batch must reach its final state however long the database is away.
  allocate: bizType(z.object({ batchId: z.string() }), { concurrency: 8, retry: every('2s'), serial: true, timeout: '30s' }),
};

/** The service without its HTTP face. */
export class Dispatch {
  readonly knex: Knex;
  readonly biz: CompensateBiz<typeof types>;
  readonly #ids: Snowflake;
  readonly #room: Service;
  readonly #worker: Service;
  readonly #database: Database;

  private constructor(knex: Knex, biz: CompensateBiz<typeof types>, ids: Snowflake, room: Service, database: Database) {
    this.knex = knex;
    this.biz = biz;
    this.#ids = ids;
    this.#room = room;
    this.#database = database;
    biz.handle('allocate', async ({ batchId }, run) => {
      // Asked before the transaction: SQLite has one connection, and the transaction holds it.
      const nowMs = await database.now();
      return run.commit(async (trx) => {
        const next = await allocateOnce(trx, batchId, nowMs);
        if (next !== undefined) await biz.in(trx).submit('allocate', { batchId }, { bizId: batchId, delay: next, tenant: run.tenant });
      });
    });
    this.#worker = biz.worker({ lease: '10s' });
  }

  /** Brings the tables up to date, fills the room, and makes the parts. Nothing runs before {@link start}. */
  static async open(options: { readonly knex: Knex; readonly machines: number; readonly logger: Logger }): Promise<Dispatch> {
    const { knex, logger } = options;
    await migrate(knex, [coreSchema, compensateBizSchema, dispatchSchema]);
    const database = new Database({ knex });
    await database.describe();
    await seedRoom(knex, options.machines);
    const leases = new LeaseTable(database);
    const room = leaderLoop({ table: leases, name: 'room', owner: uuidv7(), everyMs: 1_000, logger, run: () => stirRoom(knex) });
    return new Dispatch(knex, createCompensateBiz({ knex, types, logger }), await createSnowflake({ leases }), room, database);
  }

  async start(): Promise<void> {
    await this.#worker.start();
    await this.#room.start();
  }

  async stop(): Promise<void> {
    await this.#room.stop();
    await this.#worker.stop();
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
    const rows = await this.knex('dispatch_machine').orderBy('id');
    return rows.map((row) => ({ id: row.id, packageId: row.package_id, state: row.state }));
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
    grantedAt: time(row.granted_ms),
  };
}

function time(ms: unknown): string | null {
  return ms === null || ms === undefined ? null : new Date(Number(ms)).toISOString();
}
