import { type Database, type LeaseTable, monotonicMs } from '@holdfast/core';

/** Scope of the workers' heartbeats. */
const memberScope = 'code-runner';

/** Which workers show signs of life, this one among them. */
export class Membership {
  readonly #database: Database;
  readonly #leases: LeaseTable;
  readonly #id: string;
  readonly #leaseMs: number;
  #alive: ReadonlySet<string>;
  #aliveUntil = 0;
  #steadySince = 0;
  #clockOffsetMs = 0;

  constructor(database: Database, leases: LeaseTable, id: string, leaseMs: number) {
    this.#database = database;
    this.#leases = leases;
    this.#id = id;
    this.#leaseMs = leaseMs;
    this.#alive = new Set([id]);
  }

  /** Workers that have shown a sign of life in time, as of the last look. */
  get alive(): ReadonlySet<string> {
    return this.#alive;
  }

  /** Whether this worker surely counts as alive: others may already have taken its runs otherwise. */
  get isAlive(): boolean {
    return this.#aliveUntil >= monotonicMs();
  }

  /** Whether this worker has heard of the others for long enough to say which of them are gone. */
  get isSteady(): boolean {
    return this.#steadySince + this.#leaseMs < monotonicMs();
  }

  /** In epoch ms, about as the database has it. */
  get now(): number {
    return monotonicMs() + this.#clockOffsetMs;
  }

  async beat(): Promise<void> {
    const sentAt = monotonicMs();
    // Out of touch for longer than a lease, as everybody may have been: a full lease must pass before who is silent counts as gone.
    if (this.#aliveUntil < sentAt) this.#steadySince = sentAt;
    await this.#leases.heartbeat(memberScope, this.#id, this.#leaseMs);
    this.#aliveUntil = sentAt + this.#leaseMs;
    await this.look();
  }

  /** Reads who is alive. */
  async look(): Promise<void> {
    this.#alive = new Set(await this.#leases.members(memberScope));
    this.#clockOffsetMs = (await this.#database.now()) - monotonicMs();
  }

  async leave(): Promise<void> {
    await this.#leases.leave(memberScope, this.#id);
  }
}
