import type { JobEnd } from '../admin/protocol.ts';

/** A stored end of a run. */
export interface StoredEnd {
  /** Names it in its store. */
  readonly id: string;
  readonly end: JobEnd;
  /** How often admins have refused it alone. */
  readonly refusals: number;
}

/** Keeps the ends of runs until an admin has accepted them. */
export interface EndStore {
  add(end: JobEnd): Promise<void>;
  /** Reads at most `most` ends that are to be reported now, those that were refused the least first. */
  due(most: number): Promise<readonly StoredEnd[]>;
  /** Removes ends that an admin has accepted. */
  remove(ids: readonly string[]): Promise<void>;
  /** Notes that an end was refused alone: it is due again after `ms`. */
  refused(id: string, ms: number): Promise<void>;
  /** Deletes ends that are older than `days`. Returns how many there were. */
  purge(days: number, signal?: AbortSignal): Promise<number>;
}
