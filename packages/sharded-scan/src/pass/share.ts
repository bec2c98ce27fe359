import { type Lease, type LeaseTable, type Logger, monotonicMs, wait } from '@holdfast/core';
import type { Shard } from '../route/shard.ts';
import type { ScanStore } from '../walk/scan-store.ts';
import type { UnitWalk, WalkEnd } from '../walk/unit-walk.ts';
import { fitsColumn } from './scope-name.ts';

/** Options of {@link Share}. */
export interface ShareOptions<Row extends Record<string, unknown>> {
  readonly store: ScanStore;
  readonly leases: LeaseTable;
  /** Scope of the units' leases. All runs of a scan use the same, so runs of different scopes never walk the same unit at once. */
  readonly leaseScope: string;
  /** Scope of the instances that share this run's units. */
  readonly members: string;
  readonly owner: string;
  readonly leaseMs: number;
  readonly shards: readonly Shard[];
  readonly concurrency: number;
  readonly perDatabase: number;
  /** The most units of one database server walked at a time by all instances together. */
  readonly maxPerDatabase: number | undefined;
  readonly walk: (shard: Shard, lease: Lease) => UnitWalk<Row>;
  readonly onStarted: (unit: string, epoch: number) => void;
  readonly onEnded: (unit: string, how: WalkEnd) => void;
  readonly logger: Logger;
}

/**
 * Shares the units of a run among the instances that take part in it. Each instance leases its fair share of the open units, and leaves
 * units above that share after their current batch. The cap over all instances is a number of slots per database server, which are leases too.
 */
export class Share<Row extends Record<string, unknown>> {
  readonly #options: ShareOptions<Row>;
  readonly #walks = new Map<string, UnitWalk<Row>>();
  readonly #slots = new Map<string, Lease>();
  readonly #ends = new Set<Promise<void>>();
  /** Units left because of an outage; this run does not take them again. */
  readonly #deferred = new Set<string>();
  /** Ends the current pause. */
  #wake = (): void => undefined;
  /** A walk has ended since the turn began: the next turn follows without a pause. */
  #walkEnded = false;
  #renewAt = 0;

  constructor(options: ShareOptions<Row>) {
    this.#options = options;
  }

  /** Runs until no unit is open, or, once `signal` has aborted, until this instance walks none. */
  async run(signal: AbortSignal): Promise<void> {
    const { logger, leases, members, owner } = this.#options;
    try {
      for (let pauseMs = 50; ; ) {
        this.#walkEnded = false;
        const stopping = signal.aborted;
        // Also while the state database is away.
        if (stopping) for (const walk of this.#walks.values()) walk.stop();
        try {
          if (await this.#turn(stopping)) break;
          pauseMs = 50;
        } catch (err) {
          logger.warn({ err, scan: this.#options.leaseScope }, 'the state database of a scan is unavailable; retrying');
          for (const walk of this.#walks.values()) if (walk.lease.deadline <= monotonicMs()) walk.onRenewal(undefined);
          pauseMs = Math.min(pauseMs * 2, 2_000);
          if (this.#walks.size === 0 && stopping) break;
        }
        const pause = new AbortController();
        this.#wake = () => pause.abort(new Error('a walk ended'));
        const stop = (): void => this.#wake();
        if (!stopping) signal.addEventListener('abort', stop, { once: true });
        if (!this.#walkEnded && signal.aborted === stopping)
          await wait(Math.max(pauseMs, this.#renewAt - monotonicMs()), pause.signal).catch(() => undefined);
        signal.removeEventListener('abort', stop);
      }
    } finally {
      await Promise.all(this.#ends);
      await leases.leave(members, owner).catch(() => undefined);
    }
  }

  /** Renews leases, leaves units above the fair share, and takes free ones. Returns true when the run has ended. */
  async #turn(stopping: boolean): Promise<boolean> {
    const { store, leases, leaseScope, members, owner, leaseMs, shards, concurrency } = this.#options;
    if (monotonicMs() >= this.#renewAt) {
      await Promise.all([leases.heartbeat(members, owner, leaseMs), this.#renew()]);
      this.#renewAt = monotonicMs() + leaseMs / 10;
    }
    const [units, alive, holders] = await Promise.all([store.units(), leases.members(members), leases.holders(leaseScope)]);
    // The pass was cancelled: what its walks write is refused.
    for (const { unit, state } of units) if (state === 'cancelled') this.#walks.get(unit)?.stop();
    const open = new Set(units.filter(({ state }) => state === 'todo' || state === 'running').map(({ unit }) => unit));
    for (const unit of this.#deferred) open.delete(unit);
    if (this.#walks.size === 0 && (stopping || open.size === 0)) return true;
    const fair = Math.ceil(open.size / Math.max(1, alive.length));
    for (const walk of [...this.#walks.values()].slice(fair)) walk.leave();
    const room = Math.min(concurrency, fair) - this.#walks.size;
    if (room <= 0 || stopping) return false;
    const free = shards.filter(({ name }) => open.has(name) && !this.#walks.has(name) && !holders.has(name));
    const picked = await this.#takeSlots(this.#pick(free, room));
    const names = picked.map(({ name }) => name);
    for (const lease of await leases.acquireAll(leaseScope, names, owner, leaseMs))
      this.#start(picked.find(({ name }) => name === lease.name) as Shard, lease);
    await this.#releaseSlots(names.filter((name) => !this.#walks.has(name)));
    return false;
  }

  #start(shard: Shard, lease: Lease): void {
    const { walk: make, onStarted, onEnded, leases } = this.#options;
    const walk = make(shard, lease);
    this.#walks.set(shard.name, walk);
    onStarted(shard.name, lease.epoch);
    const ended = walk.run().then(async (how) => {
      this.#walks.delete(shard.name);
      // The walk left the unit by itself: because of an outage.
      if (how === 'left' && !walk.leaving) this.#deferred.add(shard.name);
      onEnded(shard.name, how);
      await this.#releaseSlots([shard.name]).catch(() => undefined);
      // The freed place is filled at once.
      this.#walkEnded = true;
      this.#wake();
      // Under its epoch: a lease that another instance has taken stays.
      await leases.release(walk.lease).catch(() => undefined);
    });
    this.#ends.add(ended);
    void ended.finally(() => this.#ends.delete(ended));
  }

  /** Picks units to take from each database in turn, so that every database has work, within the cap of each server. */
  #pick(free: readonly Shard[], room: number): readonly Shard[] {
    const busy = new Map<string, number>();
    for (const { shard } of this.#walks.values()) busy.set(shard.server, (busy.get(shard.server) ?? 0) + 1);
    const picked: Shard[] = [];
    for (const shard of [...free].sort((a, b) => a.table - b.table || a.database - b.database)) {
      if (picked.length >= room) break;
      const count = busy.get(shard.server) ?? 0;
      if (count >= this.#options.perDatabase) continue;
      busy.set(shard.server, count + 1);
      picked.push(shard);
    }
    return picked;
  }

  /** Takes a slot for each unit whose server has one free; returns these units. */
  async #takeSlots(shards: readonly Shard[]): Promise<readonly Shard[]> {
    const { maxPerDatabase, leases, leaseScope, owner, leaseMs } = this.#options;
    if (maxPerDatabase === undefined || shards.length === 0) return shards;
    const scope = `${leaseScope} slots`;
    const taken = await leases.holders(scope);
    const wanted = new Map<string, Shard>();
    for (const shard of shards)
      for (let n = 0; n < maxPerDatabase; n++) {
        const slot = `${fitsColumn(shard.server)} ${n}`;
        if (taken.has(slot) || wanted.has(slot)) continue;
        wanted.set(slot, shard);
        break;
      }
    const got: Shard[] = [];
    for (const lease of await leases.acquireAll(scope, [...wanted.keys()], owner, leaseMs)) {
      const shard = wanted.get(lease.name) as Shard;
      this.#slots.set(shard.name, lease);
      got.push(shard);
    }
    return got;
  }

  /** Releases the slots of units that are no longer walked. */
  async #releaseSlots(units: readonly string[]): Promise<void> {
    for (const unit of units) {
      const slot = this.#slots.get(unit);
      this.#slots.delete(unit);
      if (slot) await this.#options.leases.release(slot);
    }
  }

  async #renew(): Promise<void> {
    const { leases, leaseMs } = this.#options;
    const walks = [...this.#walks.values()];
    const slots = [...this.#slots];
    const [renewed, kept] = await Promise.all([
      leases.renewAll(
        walks.map(({ lease }) => lease),
        leaseMs,
      ),
      leases.renewAll(
        slots.map(([, lease]) => lease),
        leaseMs,
      ),
    ]);
    for (const walk of walks) walk.onRenewal(renewed.get(walk.lease.name));
    for (const [unit, slot] of slots) {
      const lease = kept.get(slot.name);
      if (lease && this.#slots.has(unit)) this.#slots.set(unit, lease);
      // The slot is lost: the unit is left, and continues when a slot is free again.
      else this.#walks.get(unit)?.leave();
    }
  }
}
