import { lifecycle } from '../loop/lifecycle.ts';
import { defineLoop, type Loop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Which names are shared, among whom, and who is told of those that come and go. */
export interface LeaseShareOptions {
  readonly table: LeaseTable;
  readonly scope: string;
  readonly names: readonly string[];
  readonly owner: string;
  /** Default 30,000 ms. */
  readonly leaseMs?: number;
  readonly logger: Logger;
  /** A name is ours from now on. */
  readonly onTaken: (lease: Lease) => void;
  /** A name is no longer ours: handed over, lost, or we stop. */
  readonly onLost: (lease: Lease) => void;
  /** Others are owed `count` of our names: to be given up by {@link LeaseShare.safePoint}. Called at every pass while it is so. */
  readonly onSurplus?: (count: number) => void;
}

/**
 * Splits names fairly among the live members of a scope. A joiner takes free names first; an owner with more than its
 * share gives one up at its next safe point ({@link LeaseShare.safePoint}), never in the middle of a batch.
 */
export class LeaseShare implements Service {
  readonly #options: LeaseShareOptions;
  readonly #leaseMs: number;
  readonly #held = new Map<string, Lease>();
  readonly #loop: Loop<number>;
  readonly #lifecycle: Service;
  #surplus = 0;

  constructor(options: LeaseShareOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? 30_000;
    this.#lifecycle = lifecycle({ start: () => this.#loop.start(), stop: () => this.#stop() });
    this.#loop = defineLoop({
      name: `lease-share ${options.scope}`,
      logger: options.logger,
      runOnce: () => this.runOnce(),
      pauseMs: () => this.#leaseMs / 6,
    });
  }

  /** Leases held whose own deadline has not passed. */
  get held(): readonly Lease[] {
    const now = monotonicMs();
    return [...this.#held.values()].filter((lease) => lease.deadline > now);
  }

  /** The lease of a name, whose deadline may have passed. */
  lease(name: string): Lease | undefined {
    return this.#held.get(name);
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** One pass: heartbeat, renew, take what is free and ours to take. Returns how many names are held. */
  async runOnce(): Promise<number> {
    const { table, scope, names, owner } = this.#options;
    await table.heartbeat(scope, owner, this.#leaseMs);
    await this.#renew();
    const members = await table.members(scope);
    const rank = Math.max(0, members.indexOf(owner));
    const share = Math.floor(names.length / Math.max(1, members.length)) + (rank < names.length % Math.max(1, members.length) ? 1 : 0);
    this.#surplus = Math.max(0, this.#held.size - share);
    if (this.#surplus > 0) this.#options.onSurplus?.(this.#surplus);
    if (this.#held.size < share) {
      const holders = await table.holders(scope);
      const free = names.filter((name) => !this.#held.has(name) && !holders.has(name)).slice(0, share - this.#held.size);
      for (const lease of await table.acquireAll(scope, free, owner, this.#leaseMs)) {
        this.#held.set(lease.name, lease);
        this.#options.onTaken(lease);
      }
    }
    return this.#held.size;
  }

  /** To be called between batches: hands the name over if others are owed one. Returns whether it was. */
  async safePoint(lease: Lease): Promise<boolean> {
    if (this.#surplus === 0 || !this.#held.has(lease.name)) return false;
    this.#surplus -= 1;
    await this.#give(this.#held.get(lease.name) ?? lease);
    return true;
  }

  async #renew(): Promise<void> {
    const held = [...this.#held.values()];
    let renewed: ReadonlyMap<string, Lease> | undefined;
    let failure: unknown;
    try {
      renewed = await this.#options.table.renewAll(held, this.#leaseMs);
    } catch (error) {
      failure = error;
    }
    for (const lease of held) {
      if (this.#held.get(lease.name) !== lease) continue;
      const fresh = renewed?.get(lease.name);
      if (fresh) this.#held.set(lease.name, fresh);
      else if (renewed || lease.deadline <= monotonicMs()) {
        this.#held.delete(lease.name);
        this.#options.onLost(lease);
      }
    }
    if (failure !== undefined) throw failure;
  }

  async #stop(): Promise<void> {
    await this.#loop.stop();
    for (const lease of [...this.#held.values()]) await this.#give(lease).catch(() => undefined);
    await this.#options.table.leave(this.#options.scope, this.#options.owner).catch(() => undefined);
  }

  async #give(lease: Lease): Promise<void> {
    this.#held.delete(lease.name);
    this.#options.onLost(lease);
    await this.#options.table.release(lease);
  }
}
