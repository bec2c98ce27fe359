import type { Database } from '@holdfast/core';
import type { Knex } from 'knex';
import { type Announcers, announce } from '../announce.ts';
import { DispatchError } from '../errors.ts';
import type { SlotNews } from '../news.ts';
import type { Tasks } from '../tasks.ts';
import { releaseQuota } from '../tenants/release-quota.ts';
import { byKey, inPortions, locked, nowIn, transact } from '../transact.ts';
import { endLeases } from './end-leases.ts';

export interface SteerParts extends Announcers {
  readonly knex: Knex;
  readonly database: Database;
  readonly tasks: Tasks;
}

/** The commands of customers for their orders. Each locks the batch first, as the passes that fill it do. */
export class Steer {
  readonly #parts: SteerParts;

  constructor(parts: SteerParts) {
    this.#parts = parts;
  }

  /**
   * Ends a batch's filling: slots without a machine get none, machines that do not run yet are given back, running ones are switched off.
   * A second call does nothing.
   */
  async cancel(tenant: string, batchId: string): Promise<boolean> {
    return this.#change(tenant, batchId, undefined, async (trx, batch, nowMs) => {
      if (batch.result === 'CANCELLED') return;
      if (batch.result !== null)
        throw new DispatchError(
          'batch-not-filling',
          `The filling of batch ${batchId} has ended as ${batch.result}; release it to give its machines back.`,
        );
      await this.#end(trx, batch, undefined, nowMs);
      await trx('dispatch_batch').where({ id: batchId }).update({ state: 'CANCELLED', result: 'CANCELLED', finished_ms: nowMs });
      const news = { batchId, tenant, businessOrderNo: String(batch.business_order_no), state: 'CANCELLED' as const };
      await announce(trx, this.#parts, { batches: [news] }, nowMs);
      await this.#parts.tasks.finish(trx, [batchId]);
    });
  }

  /** Gives back the machines of all slots of a batch whose filling has ended, or of one slot. Running machines are switched off. */
  async release(tenant: string, batchId: string, applyId?: string): Promise<boolean> {
    return this.#change(tenant, batchId, applyId, async (trx, batch, nowMs) => {
      if (batch.result === null)
        throw new DispatchError('batch-filling', `Batch ${batchId} is being filled; cancel it, or release it when it is done.`);
      await this.#end(trx, batch, applyId, nowMs);
    });
  }

  /** Asks for a slot's machine to be switched. */
  async power(tenant: string, batchId: string, applyId: string, to: 'ON' | 'OFF'): Promise<boolean> {
    return this.#change(tenant, batchId, applyId, async (trx, batch, nowMs) => {
      const slot = await locked(trx, trx('dispatch_slot').where({ apply_id: applyId })).first();
      if (slot.state !== 'STARTING' && slot.state !== 'RUNNING')
        throw new DispatchError(
          'slot-not-up',
          `Slot ${applyId} is ${slot.state}; machines are switched while they are STARTING or RUNNING. A slot that has ended does not come back: order another.`,
        );
      if (slot.desired === to) return;
      // The machine has not run yet: there is nothing to switch off, and no event would ever report it as off.
      if (slot.state === 'STARTING') {
        await this.#end(trx, batch, applyId, nowMs);
        return;
      }
      await trx('dispatch_slot').where({ apply_id: applyId }).update({ desired: to, flag: null, changed_ms: nowMs });
      await this.#parts.tasks.power(trx, [String(slot.lease_id)], to);
    });
  }

  /** Returns whether the batch and slot belong to the tenant. */
  #change(
    tenant: string,
    batchId: string,
    applyId: string | undefined,
    fn: (trx: Knex.Transaction, batch: Record<string, unknown>, nowMs: number) => Promise<void>,
  ): Promise<boolean> {
    return transact(this.#parts.knex, async (trx) => {
      const batch = await locked(trx, trx('dispatch_batch').where({ id: batchId, tenant })).first();
      if (!batch) return false;
      if (applyId !== undefined && !(await trx('dispatch_slot').where({ apply_id: applyId, batch_id: batchId }).first('apply_id')))
        return false;
      await fn(trx, batch, await nowIn(this.#parts.database, trx));
      return true;
    });
  }

  /** Has running slots switched off; all others expire. */
  async #end(trx: Knex.Transaction, batch: Record<string, unknown>, applyId: string | undefined, nowMs: number): Promise<void> {
    const query = trx('dispatch_slot').where({ batch_id: batch.id }).whereNotIn('state', ['ENDED', 'EXPIRED']).orderBy('apply_id');
    if (applyId !== undefined) query.where({ apply_id: applyId });
    const slots = await locked(trx, query);
    const running = slots.filter(({ state }) => state === 'RUNNING');
    const others = slots.filter(({ state }) => state !== 'RUNNING');
    await inPortions(
      running.filter(({ desired }) => desired !== 'OFF').map((slot) => String(slot.apply_id)),
      (some) =>
        byKey(trx, 'dispatch_slot')
          .whereIn('apply_id', some)
          .update({ desired: 'OFF', changed_ms: nowMs })
          .then(() => []),
    );
    if (running.length > 0)
      await this.#parts.tasks.power(
        trx,
        running.map((slot) => String(slot.lease_id)),
        'OFF',
      );
    await inPortions(
      others.map((slot) => String(slot.apply_id)),
      (some) =>
        byKey(trx, 'dispatch_slot')
          .whereIn('apply_id', some)
          .increment('news', 1)
          .update({ state: 'EXPIRED', changed_ms: nowMs })
          .then(() => []),
    );
    const leases = others.flatMap((slot) => (slot.lease_id === null ? [] : [String(slot.lease_id)]));
    await endLeases(trx, leases, nowMs, this.#parts.tasks);
    const told = others.map(
      (slot): SlotNews => ({
        applyId: String(slot.apply_id),
        batchId: String(slot.batch_id),
        tenant: String(slot.tenant),
        state: 'EXPIRED',
        machineId: slot.machine_id === null ? null : String(slot.machine_id),
        news: Number(slot.news) + 1,
      }),
    );
    await releaseQuota(trx, told);
    await announce(trx, this.#parts, { slots: told }, nowMs);
  }
}
