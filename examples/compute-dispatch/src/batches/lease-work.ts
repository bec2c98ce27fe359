import type { Database } from '@holdfast/core';
import type { Knex } from 'knex';
import { type Announcers, announce } from '../announce.ts';
import type { PowerEvent } from '../power/event.ts';
import { storeEvents } from '../power/store-events.ts';
import type { DispatchAdapter, LeaseRef } from '../room/adapter.ts';
import type { Tasks } from '../tasks.ts';
import { byKey, groupedBy, inPortions, locked, nowIn, transact } from '../transact.ts';

export interface LeaseWorkParts extends Announcers {
  readonly knex: Knex;
  readonly database: Database;
  readonly room: DispatchAdapter;
  readonly tasks: Tasks;
  /** A machine is free after this many ms even if its room does not confirm the release: its epoch keeps the old lease out. */
  readonly quarantineMs: number;
}

/** Work on existing leases: they are switched, released, and finally counted out of their batch. */
export class LeaseWork {
  readonly #parts: LeaseWorkParts;

  constructor(parts: LeaseWorkParts) {
    this.#parts = parts;
  }

  /** Asks the room to switch machines. Returns the leases for which it is unknown whether the room got the command. */
  async power(leaseIds: readonly string[], to: 'ON' | 'OFF', signal?: AbortSignal): Promise<ReadonlySet<string>> {
    const rows = await inPortions(leaseIds, (some) =>
      byKey(this.#parts.knex, 'dispatch_lease')
        .whereIn('id', some)
        .where({ state: 'ACTIVE' })
        .whereNotNull('granted_ms')
        .select('id', 'machine_id', 'epoch'),
    );
    if (rows.length === 0) return new Set();
    const results = await this.#parts.room.power(
      rows.map((row) => ({ ...refOf(row), to })),
      signal ? { signal } : {},
    );
    return new Set(rows.flatMap((row, i) => ((results[i]?.outcome ?? 'unknown') === 'unknown' ? [String(row.id)] : [])));
  }

  /** Asks the room to release leases. Returns those that are not released yet. */
  async release(leaseIds: readonly string[], signal?: AbortSignal): Promise<ReadonlySet<string>> {
    const { knex, room } = this.#parts;
    const rows = await inPortions(leaseIds, (some) =>
      byKey(knex, 'dispatch_lease')
        .whereIn('id', some)
        .where({ state: 'RELEASING' })
        .select('id', 'machine_id', 'epoch', 'room', 'releasing_ms'),
    );
    if (rows.length === 0) return new Set();
    const results = await room.release(rows.map(refOf), signal ? { signal } : {});
    return transact(knex, (trx) => this.#released(trx, rows, results));
  }

  /** Ends batches that have no slot left that may run, and no machine that was not given back. */
  async finish(batchIds: readonly string[]): Promise<void> {
    await transact(this.#parts.knex, async (trx) => {
      const nowMs = await nowIn(this.#parts.database, trx);
      const batches = await locked(
        trx,
        byKey(trx, 'dispatch_batch').whereIn('id', batchIds).whereNotNull('result').whereNull('ended_ms').orderBy('id'),
      );
      const open = new Set<string>();
      for (const { id } of batches) {
        const slot = await trx('dispatch_slot').where({ batch_id: id }).whereNotIn('state', ['ENDED', 'EXPIRED']).first('apply_id');
        const lease =
          slot ??
          (await trx('dispatch_lease')
            .join('dispatch_slot as s', 's.apply_id', 'dispatch_lease.apply_id')
            .where({ 's.batch_id': id, active: 1 })
            .first('id'));
        if (lease) open.add(String(id));
      }
      const over = batches.filter(({ id }) => !open.has(String(id)));
      if (over.length === 0) return;
      await byKey(trx, 'dispatch_batch')
        .whereIn(
          'id',
          over.map(({ id }) => id),
        )
        .update({ state: 'ENDED', ended_ms: nowMs });
      const news = over.map((row) => ({
        batchId: String(row.id),
        tenant: String(row.tenant),
        businessOrderNo: String(row.business_order_no),
        state: 'ENDED' as const,
      }));
      await announce(trx, this.#parts, { batches: news }, nowMs);
    });
  }

  async #released(
    trx: Knex.Transaction,
    asked: readonly Record<string, unknown>[],
    results: Awaited<ReturnType<DispatchAdapter['release']>>,
  ): Promise<ReadonlySet<string>> {
    const nowMs = await nowIn(this.#parts.database, trx);
    const still = new Map(
      (
        await inPortions(
          asked.map(({ id }) => String(id)),
          (some) => locked(trx, byKey(trx, 'dispatch_lease').whereIn('id', some).where({ state: 'RELEASING' }).orderBy('id')),
        )
      ).map((row) => [String(row.id), row]),
    );
    const waiting = new Set<string>();
    const released: { readonly row: Record<string, unknown>; readonly atMs: number }[] = [];
    const events: PowerEvent[] = [];
    for (const [i, { id }] of asked.entries()) {
      const row = still.get(String(id));
      const result = results[i] ?? ({ outcome: 'unknown' } as const);
      if (!row) continue;
      if (result.outcome === 'released') {
        released.push({ row, atMs: result.releasedAtMs });
        if (result.power?.state === 'OFF') events.push(offEvent(row, `release-${id}`, result.power.sinceMs, result.power.sequence));
      } else if (nowMs - Number(row.releasing_ms) >= this.#parts.quarantineMs) {
        released.push({ row, atMs: nowMs });
      } else waiting.add(String(id));
    }
    if (released.length === 0) return waiting;
    for (const [atMs, some] of groupedBy(released, (one) => one.atMs))
      await byKey(trx, 'dispatch_lease')
        .whereIn(
          'id',
          some.map(({ row }) => row.id as string),
        )
        // Folded once more: without a known power-off, the release is the end of the run.
        .update({ state: 'RELEASED', active: null, released_ms: atMs, fold_due_ms: 0 });
    // By epoch: a later lease of the machine keeps it.
    for (const [epoch, some] of groupedBy(released, ({ row }) => Number(row.epoch)))
      await byKey(trx, 'dispatch_machine')
        .whereIn(
          'id',
          some.map(({ row }) => row.machine_id as string),
        )
        .where({ epoch, state: 'HELD' })
        .update({ state: 'FREE' });
    await storeEvents(trx, events, 'release', nowMs);
    await this.#parts.tasks.finish(trx, [...new Set(released.map(({ row }) => String(row.batch_id)))]);
    return waiting;
  }
}

function offEvent(lease: Record<string, unknown>, eventId: string, occurredAtMs: number, sequence: number): PowerEvent {
  return { eventId, roomId: String(lease.room), ...refOf(lease), kind: 'OFF', occurredAtMs, sequence };
}

function refOf(row: Record<string, unknown>): LeaseRef {
  return { token: String(row.id), machineId: String(row.machine_id), epoch: Number(row.epoch) };
}
