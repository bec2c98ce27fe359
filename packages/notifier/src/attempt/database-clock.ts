import { type Database, monotonicMs } from '@holdfast/core';

/** The database's time between two reads of it: this process's monotonic clock, and the offset that the last read had to it. */
export class DatabaseClock {
  readonly #database: Database;
  #offsetMs: number | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Ms since 1970. */
  now(): number {
    return monotonicMs() + (this.#offsetMs ?? 0);
  }

  /** Takes over a time that a statement has just returned. */
  set(databaseMs: number): void {
    this.#offsetMs = databaseMs - monotonicMs();
  }

  /** Reads the database's time, unless it was read before. */
  async ready(): Promise<void> {
    if (this.#offsetMs === undefined) this.set(await this.#database.now());
  }
}
