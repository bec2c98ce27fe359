import type { Knex } from 'knex';
import type { SlotState } from '../topics.ts';
import { type BatchView, type SlotView, time } from './views.ts';

/** Reads batches and slots as customers see them. */
export class BatchReader {
  readonly #knex: Knex;

  constructor(knex: Knex) {
    this.#knex = knex;
  }

  async row(tenant: string, id: string): Promise<Record<string, unknown> | undefined> {
    return this.#knex('dispatch_batch').where({ tenant, id }).first();
  }

  async batch(tenant: string, id: string): Promise<BatchView | undefined> {
    const row = await this.row(tenant, id);
    return row && (await this.#views([row]))[0];
  }

  /** A page of batches, newest first, before the given id. */
  async batches(tenant: string, limit: number, before?: string): Promise<BatchView[]> {
    const query = this.#knex('dispatch_batch').where({ tenant }).orderBy('id', 'desc').limit(limit);
    if (before !== undefined) query.where('id', '<', before);
    return this.#views(await query);
  }

  /** A page of a batch's slots, after the given one. */
  async slots(batchId: string, limit: number, after?: string): Promise<SlotView[]> {
    const query = this.#slots().where('s.batch_id', batchId).orderBy('s.apply_id').limit(limit);
    if (after !== undefined) query.where('s.apply_id', '>', after);
    return (await query).map(slotOf);
  }

  async slot(tenant: string, applyId: string): Promise<SlotView | undefined> {
    const row = await this.#slots().where({ 's.apply_id': applyId, 's.tenant': tenant }).first();
    return row && slotOf(row);
  }

  /** A tenant's usage, by the lines of bills that were made in a period. */
  async usage(
    tenant: string,
    from: string | undefined,
    to: string | undefined,
  ): Promise<{ packageId: string; priceVersion: number; lines: number; ms: number; amountCents: number }[]> {
    const query = this.#knex('dispatch_charge').where({ tenant });
    if (from !== undefined) query.where('created_ms', '>=', Date.parse(from));
    if (to !== undefined) query.where('created_ms', '<', Date.parse(to));
    const rows = await query
      .groupBy('package_id', 'price_version')
      .orderBy(['package_id', 'price_version'])
      .select(
        'package_id',
        'price_version',
        this.#knex.raw('COUNT(*) AS n'),
        this.#knex.raw('SUM(ms) AS ms'),
        this.#knex.raw('SUM(amount_cents) AS cents'),
      );
    return rows.map((row) => ({
      packageId: String(row.package_id),
      priceVersion: Number(row.price_version),
      lines: Number(row.n),
      ms: Number(row.ms),
      amountCents: Number(row.cents),
    }));
  }

  async rooms(): Promise<{ id: string; network: string; machines: { packageId: string; state: string; count: number }[] }[]> {
    const rooms = await this.#knex('dispatch_room').orderBy('id');
    const counted = await this.#knex('dispatch_machine')
      .groupBy('room', 'package_id', 'state')
      .select('room', 'package_id', 'state', this.#knex.raw('COUNT(*) AS n'));
    return rooms.map((room) => ({
      id: String(room.id),
      network: String(room.network),
      machines: counted
        .filter((row) => row.room === room.id)
        .map((row) => ({ packageId: String(row.package_id), state: String(row.state), count: Number(row.n) })),
    }));
  }

  /** A page of machines, after the given one. */
  async machinesAfter(
    after: string | undefined,
    limit: number,
  ): Promise<{ id: string; room: string; ip: string; packageId: string; state: string; epoch: number }[]> {
    const query = this.#knex('dispatch_machine').orderBy('id').limit(limit);
    if (after !== undefined) query.where('id', '>', after);
    return (await query).map((row) => ({
      id: String(row.id),
      room: String(row.room),
      ip: String(row.ip),
      packageId: String(row.package_id),
      state: String(row.state),
      epoch: Number(row.epoch),
    }));
  }

  /** The room's machines as a page shows them. */
  async machines(limit: number): Promise<{ id: string; packageId: string; state: string }[]> {
    const rows = await this.#knex('dispatch_machine as m')
      .leftJoin('dispatch_lease as l', (on) => on.on('l.machine_id', 'm.id').andOnVal('l.active', 1))
      .leftJoin('dispatch_slot as s', 's.apply_id', 'l.apply_id')
      .orderBy('m.id')
      .limit(limit)
      .select('m.id', 'm.package_id', 'm.state', 'l.state as lease', 'l.power', 's.state as slot');
    return rows.map((row) => ({ id: String(row.id), packageId: String(row.package_id), state: machineState(row) }));
  }

  #slots(): Knex.QueryBuilder {
    return this.#knex('dispatch_slot as s').leftJoin('dispatch_lease as l', 'l.id', 's.lease_id').select('s.*', 'l.power', 'l.ip');
  }

  async #views(rows: readonly Record<string, unknown>[]): Promise<BatchView[]> {
    const counted = await this.#knex('dispatch_slot')
      .whereIn(
        'batch_id',
        rows.map(({ id }) => id as string),
      )
      .groupBy('batch_id', 'state')
      .select('batch_id', 'state', this.#knex.raw('COUNT(*) AS n'));
    return rows.map((row) =>
      viewOf(
        row,
        Object.fromEntries(
          counted.filter(({ batch_id }) => batch_id === row.id).map(({ state, n }): [SlotState, number] => [state as SlotState, Number(n)]),
        ),
      ),
    );
  }
}

/** A batch with how many of its slots are in which state. */
export function viewOf(row: Record<string, unknown>, slots: Partial<Record<SlotState, number>>): BatchView {
  return {
    id: String(row.id),
    businessOrderNo: String(row.business_order_no),
    packageId: String(row.package_id),
    priceVersion: Number(row.price_version),
    policy: row.policy as BatchView['policy'],
    count: Number(row.wanted),
    minimum: Number(row.minimum),
    state: row.state as BatchView['state'],
    result: (row.result ?? null) as BatchView['result'],
    granted: (slots.GRANTED ?? 0) + (slots.STARTING ?? 0) + (slots.RUNNING ?? 0) + (slots.ENDED ?? 0),
    running: slots.RUNNING ?? 0,
    slots,
    deadline: time(row.deadline_ms),
    createdAt: time(row.created_ms) ?? '',
    finishedAt: time(row.finished_ms),
    endedAt: time(row.ended_ms),
  };
}

function machineState(row: Record<string, unknown>): string {
  if (row.lease === null) return String(row.state);
  if (row.lease === 'RELEASING') return 'RELEASING';
  return row.power === 'ON' ? 'RUNNING' : String(row.slot);
}

function slotOf(row: Record<string, unknown>): SlotView {
  return {
    applyId: String(row.apply_id),
    batchId: String(row.batch_id),
    state: row.state as SlotView['state'],
    machineId: row.machine_id === null ? null : String(row.machine_id),
    ip: (row.ip ?? null) as string | null,
    desired: row.desired as SlotView['desired'],
    power: (row.power ?? null) as SlotView['power'],
    flag: row.flag as string | null,
    changedAt: time(row.changed_ms) ?? '',
  };
}
