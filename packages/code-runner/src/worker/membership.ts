import { type Database, type LeaseTable, monotonicMs } from '@holdfast/core';

/** Scope of the workers' heartbeats in the lease table. */
const memberScope = 'code-runner';

/** The heartbeat of this worker, and the set of workers whose heartbeats have not expired. */
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

  /** Workers whose heartbeats had not expired at the last read. */
  get alive(): ReadonlySet<string> {
    return this.#alive;
  }

  /** True if this worker's own heartbeat is certainly valid. If not, others may already have taken its runs. */
  get isAlive(): boolean {
    return this.#aliveUntil >= monotonicMs();
  }

  /** True if this worker has been in touch with the database for a full lease, so that a silent worker is really gone. */
  get isSteady(): boolean {
    return this.#steadySince + this.#leaseMs < monotonicMs();
  }

  /** The database's time, estimated, in epoch ms. */
  get now(): number {
    return monotonicMs() + this.#clockOffsetMs;
  }

  async beat(): Promise<void> {
    const sentAt = monotonicMs();
    // This worker was out of touch for longer than a lease, and so may others have been: wait a full lease before silence counts.
    if (this.#aliveUntil < sentAt) this.#steadySince = sentAt;
    await this.#leases.heartbeat(memberScope, this.#id, this.#leaseMs);
    this.#aliveUntil = sentAt + this.#leaseMs;
    await this.read();
  }

  /** Reads which workers are alive, and the database's clock. */
  async read(): Promise<void> {
    this.#alive = new Set(await this.#leases.members(memberScope));
    this.#clockOffsetMs = (await this.#database.now()) - monotonicMs();
  }

  async leave(): Promise<void> {
    await this.#leases.leave(memberScope, this.#id);
  }
}
