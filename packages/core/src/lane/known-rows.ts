import type { LaneRow } from './lane-rows.ts';

/**
 * The rows that a feed has given out and that may still be in the table, with the memory that they take. A read gives no known row out again.
 *
 * A row that leaves the table while a read is under way may be in the result of that read, so it stays known until the read has ended.
 */
export class KnownRows {
  readonly #bytesOf = new Map<string, number>();
  #bytes = 0;
  #largestBytes = Number.POSITIVE_INFINITY;
  #reading = false;
  #goneWhileReading: string[] = [];

  get size(): number {
    return this.#bytesOf.size;
  }

  /** The bytes of all known rows together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** About the bytes of the largest row that was read lately; infinite before the first read. */
  get largestBytes(): number {
    return this.#largestBytes;
  }

  has(id: string): boolean {
    return this.#bytesOf.has(id);
  }

  /** Adds the rows of one read. */
  add(rows: readonly { readonly id: string; readonly bytes: number }[]): void {
    if (rows.length === 0) return;
    let largest = 0;
    for (const { id, bytes } of rows) {
      this.#bytesOf.set(id, bytes);
      this.#bytes += bytes;
      largest = Math.max(largest, bytes);
    }
    // It falls slowly: large rows often come together.
    this.#largestBytes = Math.max(largest, Number.isFinite(this.#largestBytes) ? this.#largestBytes * 0.95 : 0);
  }

  /** Forgets rows, at the end of the read that is under way, if any. */
  forget(rows: readonly LaneRow[]): void {
    if (this.#reading) for (const { id } of rows) this.#goneWhileReading.push(id);
    else for (const { id } of rows) this.#delete(id);
  }

  beginRead(): void {
    this.#reading = true;
  }

  /** Call it when the rows of the read have been compared with the known ones, and also when the read has failed. */
  endRead(): void {
    this.#reading = false;
    for (const id of this.#goneWhileReading) this.#delete(id);
    this.#goneWhileReading = [];
  }

  clear(): void {
    this.#bytesOf.clear();
    this.#bytes = 0;
  }

  #delete(id: string): void {
    this.#bytes -= this.#bytesOf.get(id) ?? 0;
    this.#bytesOf.delete(id);
  }
}
