import { type Database, monotonicMs } from '@holdfast/core';

/** The database's clock, as estimated between two reads of it: this process's monotonic clock plus the offset found at the last read. */
export class DatabaseClock {
  readonly #database: Database;
  #offsetMs: number | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The database's time, in ms since 1970. */
  now(): number {
    return monotonicMs() + (this.#offsetMs ?? 0);
  }

  /** Sets the offset from a time that a statement has just returned. */
  set(databaseMs: number): void {
    this.#offsetMs = databaseMs - monotonicMs();
  }

  /** Reads the database's time. */
  async read(): Promise<void> {
    this.set(await this.#database.now());
  }
}
