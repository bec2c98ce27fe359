import { lifecycle } from '../loop/lifecycle.ts';
import { defineLoop, type Loop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import { callListener } from '../observe/call-listener.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import type { Lease, LeaseTable } from './lease-table.ts';

/** Options of {@link LeaseShare}. */
export interface LeaseShareOptions {
  readonly table: LeaseTable;
  /** The members of one scope share its names. */
  readonly scope: string;
  /** The names to share. Every member must give the same list. */
  readonly names: readonly string[];
  /** Identifies this member. */
  readonly owner: string;
  /** How long a lease lasts without a renewal, in ms. Default 30,000. */
  readonly leaseMs?: number;
  readonly logger: Logger;
  /** Called when this member takes a name. */
  readonly onTaken: (lease: Lease) => void;
  /** Called when this member no longer holds a name: it was handed over or lost, or the member stops. */
  readonly onLost: (lease: Lease) => void;
  /** Called at every pass while this member holds `count` names more than its share. Give them up with {@link LeaseShare.safePoint}. */
  readonly onSurplus?: (count: number) => void;
}

/**
 * Splits names fairly among the live members of a scope. A new member takes free names first. A member that holds more than its share gives
 * a name up at its next safe point ({@link LeaseShare.safePoint}), never in the middle of a batch.
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

  /** The leases that this member holds and whose deadline has not passed. */
  get held(): readonly Lease[] {
    const now = monotonicMs();
    return [...this.#held.values()].filter((lease) => lease.deadline > now);
  }

  /** The lease of a name that this member holds. Its deadline may have passed. */
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

  /** One pass: sends the heartbeat, renews the leases, and takes free names up to the share. Returns the number of names held. */
  async runOnce(): Promise<number> {
    const { table, scope, names, owner } = this.#options;
    await table.heartbeat(scope, owner, this.#leaseMs);
    await this.#renew();
    const members = await table.members(scope);
    const rank = Math.max(0, members.indexOf(owner));
    const share = Math.floor(names.length / Math.max(1, members.length)) + (rank < names.length % Math.max(1, members.length) ? 1 : 0);
    this.#surplus = Math.max(0, this.#held.size - share);
    if (this.#surplus > 0) this.#tell('onSurplus', () => this.#options.onSurplus?.(this.#surplus));
    if (this.#held.size < share) {
      const holders = await table.holders(scope);
      const free = names.filter((name) => !this.#held.has(name) && !holders.has(name)).slice(0, share - this.#held.size);
      for (const lease of await table.acquireAll(scope, free, owner, this.#leaseMs)) {
        this.#held.set(lease.name, lease);
        this.#tell('onTaken', () => this.#options.onTaken(lease));
      }
    }
    return this.#held.size;
  }

  /** Call it between batches: it gives the name up if this member holds more than its share. Returns whether it did. */
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
        this.#tell('onLost', () => this.#options.onLost(lease));
      }
    }
    if (failure !== undefined) throw failure;
  }

  async #stop(): Promise<void> {
    await this.#loop.stop();
    for (const lease of [...this.#held.values()]) await this.#give(lease).catch(() => undefined);
    await this.#options.table.leave(this.#options.scope, this.#options.owner).catch(() => undefined);
  }

  /** Calls a function of the options. Its failure must not leave a name that this member holds without a renewal. */
  #tell(name: string, call: () => unknown): void {
    callListener(call, (error) =>
      guardLogger(this.#options.logger).error({ err: error, scope: this.#options.scope }, `${name} of a lease share failed`),
    );
  }

  async #give(lease: Lease): Promise<void> {
    this.#held.delete(lease.name);
    this.#tell('onLost', () => this.#options.onLost(lease));
    await this.#options.table.release(lease);
  }
}
