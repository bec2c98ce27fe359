import type { Database, Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import { endLeases } from './batches/end-leases.ts';
import type { PowerEvent } from './power/event.ts';
import { provisionalOff } from './power/provisional.ts';
import { adoptWaiting, storeEvents } from './power/store-events.ts';
import type { DispatchAdapter, LeaseRef, ListedMachine, PowerState, RoomPage } from './room/adapter.ts';
import type { Tasks } from './tasks.ts';
import { byKey, inPortions, locked, nowIn, transact, updateMany } from './transact.ts';

export interface ReconcileParts {
  readonly knex: Knex;
  readonly database: Database;
  readonly room: DispatchAdapter;
  readonly tasks: Tasks;
  readonly logger: Logger;
}

/** The result of a sweep. */
export interface SweepCounts {
  listed: number;
  /** Machines that were not in the catalogue. */
  added: number;
  /** Leases that only the room has: they are released. */
  orphans: number;
  /** Power changes that no event had reported. */
  corrected: number;
  /** Leases that were missing from the room's list twice in a row. */
  lost: number;
  /** Machines whose power was not as commanded. */
  commanded: number;
}

const pageSize = 1_000;
/** A command that was not carried out for this long is sent again. */
const commandAgainMs = 5_000;
/** A machine is considered gone after it was missing from this many sweeps in a row. */
const believedAfter = 2;

/**
 * Compares the room's list with the service's tables, page by page, and corrects differences: machines that are new or back, leases that
 * only one side knows, power changes that no event reported, commands that were not carried out. Power changes are stored as events and
 * folded, so that a bill changes in one way only.
 */
export class Reconcile {
  readonly #parts: ReconcileParts;

  constructor(parts: ReconcileParts) {
    this.#parts = parts;
  }

  async sweep(signal?: AbortSignal): Promise<SweepCounts> {
    const counts: SweepCounts = { listed: 0, added: 0, orphans: 0, corrected: 0, lost: 0, commanded: 0 };
    const call = signal ? { signal } : {};
    await transact(this.#parts.knex, adoptWaiting);
    let after: string | undefined;
    do {
      // Read before the page is requested: later leases may be missing from it.
      const askedMs = await this.#parts.database.now();
      const page = await this.#parts.room.list({ limit: pageSize, ...(after === undefined ? {} : { after }) }, call);
      const orphans = await transact(this.#parts.knex, (trx) => this.#page(trx, page, after, askedMs, counts));
      if (orphans.length > 0) await this.#parts.room.release(orphans, call);
      after = page.next ?? undefined;
    } while (after !== undefined && !signal?.aborted);
    return counts;
  }

  async #page(
    trx: Knex.Transaction,
    { machines: listed, next, atMs }: RoomPage,
    after: string | undefined,
    askedMs: number,
    counts: SweepCounts,
  ): Promise<readonly LeaseRef[]> {
    const nowMs = await nowIn(this.#parts.database, trx);
    counts.listed += listed.length;
    await this.#machines(trx, listed, counts);
    const active = trx('dispatch_lease').where({ active: 1 }).orderBy('id');
    if (after !== undefined) active.where('machine_id', '>', after);
    if (next !== null) active.where('machine_id', '<=', next);
    const leases = new Map((await locked(trx, active, 'skip locked')).map((row) => [String(row.id), row]));
    const there = new Map(listed.flatMap(({ lease }) => (lease ? [[lease.token, lease]] : [])));
    const orphans = await this.#orphans(
      trx,
      [...there.values()].filter(({ token }) => !leases.has(token)),
    );
    counts.orphans += orphans.length;
    const events: PowerEvent[] = [];
    const seen: { lease: string; seen_at: number }[] = [];
    const missed: Record<string, unknown>[] = [];
    const told = await this.#told(
      trx,
      [...there.values()].filter(({ token, power }) => power && leases.has(token)).map(({ token }) => token),
    );
    const found: string[] = [];
    for (const [id, row] of leases) {
      const lease = there.get(id);
      // Granted after the list was requested, or not known to be granted: it does not count as missing.
      if (!lease) {
        if (row.granted_ms !== null && Number(row.held_ms) < askedMs && row.state === 'ACTIVE') missed.push(row);
        continue;
      }
      if (Number(row.missed) > 0) found.push(id);
      if (!lease.power) continue;
      if (lease.power.state === 'ON') seen.push({ lease: id, seen_at: atMs });
      // The state alone is not enough: a machine that went off and on again, both unreported, is on as before.
      if (row.power !== lease.power.state || !told.has(`${id} ${lease.power.sequence}`))
        events.push({
          eventId: `listing-${id}-${lease.power.sequence}`,
          roomId: String(row.room),
          token: id,
          machineId: String(row.machine_id),
          epoch: Number(row.epoch),
          kind: lease.power.state,
          occurredAtMs: lease.power.sinceMs,
          sequence: lease.power.sequence,
        });
    }
    counts.corrected += events.length;
    await storeEvents(trx, events, 'listing', nowMs);
    await updateMany(this.#parts.database, trx, {
      table: 'dispatch_lease',
      types: { lease: 'text', seen_at: 'integer' },
      rows: seen,
      set: { seen_ms: 'u.seen_at' },
      on: 't.id = u.lease',
    });
    await inPortions(found, (some) =>
      byKey(trx, 'dispatch_lease')
        .whereIn('id', some)
        .update({ missed: 0 })
        .then(() => []),
    );
    await this.#missed(trx, missed, nowMs, counts);
    await this.#command(trx, [...leases.values()], there, nowMs, counts);
    return orphans;
  }

  /** The stored power changes of these leases, each as lease and sequence. */
  async #told(trx: Knex.Transaction, leases: readonly string[]): Promise<ReadonlySet<string>> {
    const rows = await inPortions(leases, (some) =>
      trx('dispatch_power_event').whereIn('lease_id', some).whereIn('kind', ['ON', 'OFF']).select('lease_id', 'sequence'),
    );
    return new Set(rows.map(({ lease_id, sequence }) => `${lease_id} ${sequence}`));
  }

  /** Adds new machines to the catalogue, and frees machines that are back in service. */
  async #machines(trx: Knex.Transaction, listed: readonly ListedMachine[], counts: SweepCounts): Promise<void> {
    const known = new Map(
      (
        await inPortions(
          listed.map(({ machineId }) => machineId),
          (some) => byKey(trx, 'dispatch_machine').whereIn('id', some).select('id', 'state'),
        )
      ).map((row) => [String(row.id), String(row.state)]),
    );
    const added = listed.filter(({ machineId }) => !known.has(machineId));
    counts.added += added.length;
    const rows = added.map(({ machineId, roomId, ip, packageId, inService, lease }) => ({
      id: machineId,
      room: roomId,
      ip,
      package_id: packageId,
      state: inService ? 'FREE' : 'DOWN',
      // The room has seen leases that are lost here: the next epoch must be higher.
      epoch: lease?.epoch ?? 0,
    }));
    for (let from = 0; from < rows.length; from += 400)
      await trx('dispatch_machine')
        .insert(rows.slice(from, from + 400))
        .onConflict('id')
        .ignore();
    const turned = (inService: boolean, state: string): string[] =>
      listed
        .filter((machine) => machine.inService === inService && known.get(machine.machineId) === state)
        .map(({ machineId }) => machineId);
    await inPortions(turned(true, 'DOWN'), (some) =>
      byKey(trx, 'dispatch_machine')
        .whereIn('id', some)
        .where({ state: 'DOWN' })
        .update({ state: 'FREE' })
        .then(() => []),
    );
    await inPortions(turned(false, 'FREE'), (some) =>
      byKey(trx, 'dispatch_machine')
        .whereIn('id', some)
        .where({ state: 'FREE' })
        .update({ state: 'DOWN' })
        .then(() => []),
    );
  }

  /** Leases that the room has and that are not active here. A row exists before the room gets the lease, so none of these is yet to come. */
  async #orphans(trx: Knex.Transaction, leases: readonly LeaseRef[]): Promise<readonly LeaseRef[]> {
    const rows = await inPortions(
      leases.map(({ token }) => token),
      (some) => byKey(trx, 'dispatch_lease').whereIn('id', some).where({ active: 1 }).select('id'),
    );
    const active = new Set(rows.map(({ id }) => String(id)));
    return leases.filter(({ token }) => !active.has(token)).map(({ token, machineId, epoch }) => ({ token, machineId, epoch }));
  }

  async #missed(trx: Knex.Transaction, missed: readonly Record<string, unknown>[], nowMs: number, counts: SweepCounts): Promise<void> {
    await inPortions(
      missed.map(({ id }) => String(id)),
      (some) =>
        byKey(trx, 'dispatch_lease')
          .whereIn('id', some)
          .increment('missed', 1)
          .then(() => []),
    );
    const lost = missed.filter((row) => Number(row.missed) + 1 >= believedAfter);
    counts.lost += lost.length;
    const guesses: PowerEvent[] = [];
    for (const row of lost) {
      if (row.power === 'ON') guesses.push(await provisionalOff(trx, row));
      // The machine never ran: treated as if switching it on had failed.
      if (row.power === null)
        guesses.push({ ...(await provisionalOff(trx, row)), eventId: `never-on-${row.id}`, kind: 'ON_FAILED', occurredAtMs: nowMs });
    }
    await storeEvents(trx, guesses, 'provisional', nowMs);
    await endLeases(
      trx,
      lost.map(({ id }) => String(id)),
      nowMs,
      this.#parts.tasks,
    );
  }

  /** Sends the command again for slots whose machine is not as commanded and has sent no event. */
  async #command(
    trx: Knex.Transaction,
    leases: readonly Record<string, unknown>[],
    there: ReadonlyMap<string, { readonly power: PowerState | null }>,
    nowMs: number,
    counts: SweepCounts,
  ): Promise<void> {
    // A machine that was on and is off has ended its slot, whatever was reported.
    const candidates = leases.filter((row) => {
      const lease = there.get(String(row.id));
      return row.state === 'ACTIVE' && row.granted_ms !== null && lease !== undefined && lease.power?.state !== 'OFF';
    });
    const slots = await inPortions(
      candidates.map(({ id }) => String(id)),
      (some) =>
        trx('dispatch_slot')
          .whereIn('lease_id', some)
          .whereIn('state', ['STARTING', 'RUNNING'])
          .whereNotNull('desired')
          .where('changed_ms', '<', nowMs - commandAgainMs)
          .select('lease_id', 'desired'),
    );
    const power = new Map(candidates.map((row) => [String(row.id), row.power]));
    for (const to of ['ON', 'OFF'] as const) {
      const again = slots
        .filter(({ lease_id, desired }) => desired === to && (power.get(String(lease_id)) ?? 'OFF') !== to)
        .map(({ lease_id }) => String(lease_id));
      counts.commanded += again.length;
      if (again.length > 0) await this.#parts.tasks.power(trx, again, to);
    }
  }
}
