import type { Database, Snowflake } from '@holdfast/core';
import type { Knex } from 'knex';
import { type Announcers, announce } from '../announce.ts';
import type { Catalogue, PackageView } from '../catalogue.ts';
import type { BatchNews } from '../news.ts';
import type { DispatchAdapter, GrantRequest, GrantResult } from '../room/adapter.ts';
import type { Tasks } from '../tasks.ts';
import { releaseQuota } from '../tenants/release-quota.ts';
import type { SlotState } from '../topics.ts';
import { byKey, groupedBy, inPortions, insertMany, locked, nowIn, transact, updateMany } from '../transact.ts';
import { endLeases } from './end-leases.ts';
import {
  batchNews,
  change,
  countUp,
  type OpenBatch,
  type OpenSlot,
  openBatches,
  openSlots,
  slotNews,
  updateSlots,
} from './open-batches.ts';

export interface AdvanceParts extends Announcers {
  readonly knex: Knex;
  readonly database: Database;
  readonly ids: Snowflake;
  readonly catalogue: Catalogue;
  readonly room: DispatchAdapter;
  readonly tasks: Tasks;
}

/** The time after the deadline within which granted machines may come up. A slot whose machine is not up by then counts as not filled. */
const graceMs = 20_000;
const againMs = 2_000;
const soonMs = 300;
/** A slot whose machine was refused or did not come up waits this long for the next attempt. */
const retryWaitMs = 1_000;

/**
 * One pass over some batches: reserves machines, asks the room for them, and settles the known results. Returns for each batch after how
 * many ms its next pass is due; `undefined` if its filling has ended.
 *
 * The room is asked between two transactions. The first writes an intent: a lease with its token. If the process dies after it, the next
 * pass finds the intent and asks again with the same token, so no machine is granted twice, and none is granted and forgotten. A pass
 * that was believed dead and continues changes nothing: both transactions lock the batch and check the states of its slots.
 */
export class Advance {
  readonly #parts: AdvanceParts;

  constructor(parts: AdvanceParts) {
    this.#parts = parts;
  }

  async pass(batchIds: readonly string[], signal?: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const { knex, room } = this.#parts;
    // Read before the transaction: SQLite has one connection, and the transaction holds it.
    const packages = await this.#parts.catalogue.packages();
    const intents = await transact(knex, (trx) => this.#reserve(trx, batchIds, packages));
    const results = intents.length === 0 ? [] : await room.grant(intents, signal ? { signal } : {});
    const outcomes = new Map(intents.map(({ token }, i) => [token, results[i] ?? ({ outcome: 'unknown' } as const)]));
    return transact(knex, (trx) => this.#settle(trx, batchIds, outcomes));
  }

  /** Reserves machines for slots that want one: each gets a lease that the room does not know yet. */
  async #reserve(
    trx: Knex.Transaction,
    batchIds: readonly string[],
    packages: ReadonlyMap<string, PackageView>,
  ): Promise<readonly GrantRequest[]> {
    const { ids } = this.#parts;
    const nowMs = await nowIn(this.#parts.database, trx);
    const batches = await openBatches(trx, batchIds, nowMs);
    const slots = await openSlots(trx, batches, nowMs);
    const changed: OpenSlot[] = [];
    const leases: Record<string, unknown>[] = [];
    const taken: { readonly machine: string; readonly to_epoch: number }[] = [];
    const byPackage = groupedBy(batches, ({ packageId }) => packageId);
    for (const [packageId, own] of byPackage) {
      // The first pass runs even after the deadline: the service may have been down.
      const trying = new Map(own.filter(({ deadlineMs, passes }) => passes === 0 || deadlineMs > nowMs).map((batch) => [batch.id, batch]));
      const wanting = slots.filter((slot) => trying.has(slot.batchId) && wants(slot, nowMs));
      if (wanting.length === 0) continue;
      // Batches do not wait for each other: a machine that is being reserved has its row locked, and other batches skip it.
      const machines = await locked(
        trx,
        trx('dispatch_machine')
          .where({ package_id: packageId, state: 'FREE' })
          .orderBy('id')
          .limit(wanting.length)
          .select('id', 'room', 'ip', 'epoch'),
        'skip locked',
      );
      for (const [i, machine] of machines.entries()) {
        const slot = wanting[i] as OpenSlot;
        const batch = trying.get(slot.batchId) as OpenBatch;
        const epoch = Number(machine.epoch) + 1;
        const id = ids.next();
        leases.push({
          id,
          apply_id: slot.applyId,
          batch_id: slot.batchId,
          tenant: slot.tenant,
          machine_id: machine.id,
          room: machine.room,
          ip: machine.ip,
          package_id: packageId,
          price_version: batch.priceVersion,
          epoch,
          active: 1,
          state: 'ACTIVE',
          held_ms: nowMs,
        });
        taken.push({ machine: machine.id, to_epoch: epoch });
        Object.assign(slot, { state: 'HELD', leaseId: id, machineId: machine.id, retryMs: null });
        changed.push(slot);
      }
    }
    await insertMany(trx, 'dispatch_lease', leases);
    await updateMany(this.#parts.database, trx, {
      table: 'dispatch_machine',
      types: { machine: 'text', to_epoch: 'integer' },
      rows: taken,
      set: { state: "'HELD'", epoch: 'u.to_epoch' },
      on: 't.id = u.machine',
    });
    await updateSlots(this.#parts.database, trx, changed, nowMs);
    const first = batches.filter(({ passes }) => passes === 0);
    for (const { id, deadlineMs } of first)
      await trx('dispatch_batch').where({ id }).update({ state: 'FILLING', passes: 1, deadline_ms: deadlineMs });
    await announce(trx, this.#parts, { batches: first.map((batch) => batchNews(batch, 'FILLING')) }, nowMs);
    // Intents of an earlier pass too, whose result is unknown.
    const held = slots.filter(({ state }) => state === 'HELD').map(({ leaseId }) => leaseId as string);
    const rows = await inPortions(held, (some) =>
      byKey(trx, 'dispatch_lease').whereIn('id', some).where({ state: 'ACTIVE', active: 1 }).whereNull('granted_ms'),
    );
    const networks = new Map((await trx('dispatch_room').select('id', 'network')).map((row) => [String(row.id), String(row.network)]));
    return rows.map((row) => ({
      token: String(row.id),
      machineId: String(row.machine_id),
      epoch: Number(row.epoch),
      ip: String(row.ip),
      network: networks.get(row.room) ?? 'default',
      parameters: packages.get(row.package_id)?.parameters ?? {},
    }));
  }

  async #settle(
    trx: Knex.Transaction,
    batchIds: readonly string[],
    outcomes: ReadonlyMap<string, GrantResult>,
  ): Promise<ReadonlyMap<string, number>> {
    const nowMs = await nowIn(this.#parts.database, trx);
    const batches = await openBatches(trx, batchIds, nowMs);
    const slots = await openSlots(trx, batches, nowMs);
    const up = await countUp(trx, batches);
    const told: OpenSlot[] = [];
    const granted: { readonly id: string; readonly at: number }[] = [];
    const refused: { readonly lease: string; readonly machine: string; readonly down: boolean }[] = [];
    for (const slot of slots) {
      const result = slot.state === 'HELD' && slot.leaseId !== null ? outcomes.get(slot.leaseId) : undefined;
      if (result?.outcome === 'granted') {
        granted.push({ id: slot.leaseId as string, at: result.grantedAtMs });
        change(slot, 'GRANTED', told);
      } else if (result?.outcome === 'refused') {
        refused.push({ lease: slot.leaseId as string, machine: slot.machineId as string, down: result.reason === 'down' });
        Object.assign(slot, { leaseId: null, machineId: null, retryMs: nowMs + retryWaitMs });
        change(slot, 'RETRY_WAIT');
      }
    }
    await this.#granted(trx, granted);
    await this.#refused(trx, refused, nowMs);
    const next = new Map<string, number>();
    const news: BatchNews[] = [];
    const starting: OpenSlot[] = [];
    const finished: string[] = [];
    const ending: string[] = [];
    const bySlots = groupedBy(slots, ({ batchId }) => batchId);
    for (const batch of batches) {
      const own = bySlots.get(batch.id) ?? [];
      const upNow = up.get(batch.id) ?? 0;
      const filled = upNow + own.filter(({ state }) => state === 'GRANTED' || state === 'STARTING').length;
      if (batch.startedMs === null && filled >= batch.minimum) {
        batch.startedMs = nowMs;
        await trx('dispatch_batch').where({ id: batch.id }).update({ started_ms: nowMs });
      }
      if (batch.startedMs !== null)
        for (const slot of own)
          if (slot.state === 'GRANTED') {
            starting.push(slot);
            change(slot, 'STARTING');
          }
      const result = this.#judge(batch, own, upNow, nowMs, told, ending);
      if (result === undefined) {
        next.set(batch.id, pauseMs(batch, own, nowMs));
        continue;
      }
      await trx('dispatch_batch').where({ id: batch.id }).update({ state: result, result, finished_ms: nowMs });
      news.push(batchNews(batch, result));
      finished.push(batch.id);
    }
    const changed = slots.filter(({ changed }) => changed);
    await updateSlots(this.#parts.database, trx, changed, nowMs);
    if (starting.length > 0) {
      await inPortions(
        starting.map(({ applyId }) => applyId),
        (some) =>
          byKey(trx, 'dispatch_slot')
            .whereIn('apply_id', some)
            .update({ desired: 'ON' })
            .then(() => []),
      );
      await this.#parts.tasks.power(
        trx,
        starting.map(({ leaseId }) => leaseId as string),
        'ON',
      );
    }
    await endLeases(trx, ending, nowMs, this.#parts.tasks);
    // The batch may have ended by now.
    if (finished.length > 0) await this.#parts.tasks.finish(trx, finished);
    await releaseQuota(trx, told);
    await announce(trx, this.#parts, { batches: news, slots: told.map(slotNews) }, nowMs);
    return next;
  }

  /** Returns the result of a batch's filling, if it has ended. Expires slots that can no longer get a machine. */
  #judge(batch: OpenBatch, slots: readonly OpenSlot[], up: number, nowMs: number, told: OpenSlot[], ending: string[]): Result | undefined {
    const expire = (which: readonly OpenSlot[]): void => {
      for (const slot of which) {
        if (slot.leaseId !== null) ending.push(slot.leaseId);
        change(slot, 'EXPIRED', told);
      }
    };
    const of = (...states: SlotState[]): OpenSlot[] => slots.filter(({ state }) => states.includes(state));
    if (nowMs >= batch.deadlineMs) {
      expire(of('WANTED', 'RETRY_WAIT'));
      const tooFew = batch.startedMs === null && of('HELD').length === 0;
      if (tooFew || nowMs >= batch.deadlineMs + graceMs) expire(of('HELD', 'GRANTED', 'STARTING'));
    }
    if (of('WANTED', 'RETRY_WAIT', 'HELD', 'GRANTED', 'STARTING').length > 0) return undefined;
    return up === batch.wanted ? 'FULFILLED' : up > 0 ? 'PARTIAL' : 'FAILED';
  }

  async #granted(trx: Knex.Transaction, granted: readonly { readonly id: string; readonly at: number }[]): Promise<void> {
    await updateMany(this.#parts.database, trx, {
      table: 'dispatch_lease',
      types: { lease: 'text', at_ms: 'integer' },
      rows: granted.map(({ id, at }) => ({ lease: id, at_ms: at })),
      set: { granted_ms: 'u.at_ms' },
      on: "t.id = u.lease AND t.state = 'ACTIVE'",
    });
  }

  /** Undoes a refused lease: its machine is free again, unless the room says that it is out of service. */
  async #refused(
    trx: Knex.Transaction,
    refused: readonly { readonly lease: string; readonly machine: string; readonly down: boolean }[],
    nowMs: number,
  ): Promise<void> {
    if (refused.length === 0) return;
    await inPortions(
      refused.map(({ lease }) => lease),
      (some) =>
        byKey(trx, 'dispatch_lease')
          .whereIn('id', some)
          .update({ state: 'RELEASED', active: null, released_ms: nowMs })
          .then(() => []),
    );
    for (const down of [true, false]) {
      const machines = refused.filter((one) => one.down === down).map(({ machine }) => machine);
      await inPortions(machines, (some) =>
        byKey(trx, 'dispatch_machine')
          .whereIn('id', some)
          .update({ state: down ? 'DOWN' : 'FREE' })
          .then(() => []),
      );
    }
  }
}

type Result = 'FULFILLED' | 'PARTIAL' | 'FAILED';

function wants({ state, retryMs }: OpenSlot, nowMs: number): boolean {
  return state === 'WANTED' || (state === 'RETRY_WAIT' && (retryMs ?? 0) <= nowMs);
}

/** The time until the next pass: short while a result is pending; else when a machine may have become free, and at the deadline. */
function pauseMs(batch: OpenBatch, slots: readonly OpenSlot[], nowMs: number): number {
  const onItsWay = slots.some(({ state }) => state === 'STARTING' || state === 'GRANTED');
  const nextMs = onItsWay ? soonMs : againMs;
  const bounds = [batch.deadlineMs, batch.deadlineMs + graceMs].filter((at) => at > nowMs);
  return Math.max(20, Math.min(nextMs, ...bounds.map((at) => at - nowMs)));
}
