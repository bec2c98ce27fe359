import type { StoredError } from '@holdfast/core';
import type { Position } from './keyset.ts';

/**
 * The state of a unit in its pass. `running` means begun: by an instance that still walks the unit, or by one that stopped. `cancelled`: the
 * pass was cancelled before the unit had ended.
 */
export type UnitState = 'todo' | 'running' | 'done' | 'failed' | 'cancelled';

/** The progress of a unit in its pass. */
export interface UnitProgress {
  readonly unit: string;
  readonly state: UnitState;
  /** The key up to which every row is handled. `undefined` before the first checkpoint. */
  readonly position: Position | undefined;
  /** The key at which the unit ends in this pass: its last when the unit was begun. `undefined` before the first checkpoint. */
  readonly bound: Position | undefined;
  /** Rows passed, matching or not. */
  readonly examined: number;
  /** Of these: rows that matched and were handed to `process`. */
  readonly matched: number;
  /** Of the matched rows: those handled without an error. */
  readonly handled: number;
  /** Of the matched rows: those that failed. Their keys and errors are in `scan_failure`. */
  readonly failed: number;
  /** About how many rows are left to examine, by the database's estimate of the table. `undefined` before the first checkpoint. */
  readonly remaining: number | undefined;
  /** Rows examined per second, averaged over the last seconds. 0 unless the state is `running`. */
  readonly perSecond: number;
  /** The error that failed the unit, or the outage that interrupted it. */
  readonly error: StoredError | undefined;
}

/** The progress of a pass. */
export interface ScanProgress {
  /** The number of the latest pass; `'0'` before the first. */
  readonly pass: string;
  readonly startedAt: Date | undefined;
  /** `undefined` while the pass is in progress or interrupted. */
  readonly endedAt: Date | undefined;
  readonly units: readonly UnitProgress[];
}
