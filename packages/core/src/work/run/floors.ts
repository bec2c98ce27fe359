import { shortestMs } from '../../loop/look-back.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import type { GroupFloor } from '../row/floor-probes.ts';

/** Groups whose floors are kept. Each one costs a look three probes. */
const maxFloors = 32;

/**
 * The ranks from which a worker claims, by kind and group: rows of lower rank have been claimed. A floor saves time only. It is kept in
 * memory, and `LookBack` decides how often rows below it are looked for.
 */
export class Floors {
  /** In the order of the last claim, latest last. */
  readonly #floors = new Map<string, GroupFloor>();
  #databaseMs = Number.POSITIVE_INFINITY;
  #readAtMs = 0;

  /** Records the time of the database's clock, in ms. A floor is never above it: a row of negative priority has a rank in the future. */
  clock(databaseMs: number): void {
    this.#databaseMs = databaseMs;
    this.#readAtMs = monotonicMs();
  }

  #nowMs(): number {
    // PostgreSQL refuses a fraction where a rank is compared.
    return Math.floor(this.#databaseMs + (monotonicMs() - this.#readAtMs)) - shortestMs;
  }

  /** The number of groups that have a floor. */
  get size(): number {
    return this.#floors.size;
  }

  /** The rank from which rows of this group are claimed; `undefined`: from the least. */
  get(kind: string, group: string): number | undefined {
    return this.#floors.get(key(kind, group))?.rank;
  }

  /**
   * Records that a claim which began at the floor `from` took rows up to `rank`. If the floor has been set, lowered or forgotten meanwhile, it
   * stays: there are rows below the claim.
   */
  claimed(kind: string, group: string, from: number | undefined, rank: number): void {
    const floor = this.get(kind, group);
    if (from === undefined ? floor !== undefined : floor === undefined || floor < from) return;
    this.#set(kind, group, Math.max(Math.min(rank, this.#nowMs()), floor ?? Number.NEGATIVE_INFINITY));
    for (const oldest of this.#floors.keys()) {
      if (this.#floors.size <= maxFloors) break;
      this.#floors.delete(oldest);
    }
  }

  /** Records the rank of the first row that a look found: the first claim of a group need not pass what the look has passed. */
  found(kind: string, group: string, rank: number): void {
    if (this.#floors.size < maxFloors || this.#floors.has(key(kind, group))) this.#set(kind, group, Math.min(rank, this.#nowMs()));
  }

  /** Forgets the floor of a group whose claim failed: the claim may have been rolled back. */
  forget(kind: string, group: string): void {
    this.#floors.delete(key(kind, group));
  }

  /** The floors, lowered by `backMs`. */
  list(backMs: number): GroupFloor[] {
    return [...this.#floors.values()].map((floor) => ({ ...floor, rank: floor.rank - backMs }));
  }

  #set(kind: string, group: string, rank: number): void {
    this.#floors.delete(key(kind, group));
    this.#floors.set(key(kind, group), { kind, group, rank });
  }
}

function key(kind: string, group: string): string {
  return JSON.stringify([kind, group]);
}
