import type { Duration, Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Topology } from '../route/topology.ts';
import type { Throttle } from '../throttle/throttle.ts';
import type { BatchPolicy } from '../walk/batch-size.ts';
import type { RowFailure } from '../walk/failed-rows.ts';
import type { RedriveCounts } from '../walk/failure-walk.ts';
import type { UnitProgress } from '../walk/progress.ts';
import type { ProcessResult } from '../walk/row-result.ts';
import type { ScanUnit } from '../walk/scan-unit.ts';
import type { KeyColumn } from '../walk/table-shape.ts';
import type { WalkEnd } from '../walk/unit-walk.ts';

/** The time by the shard's clock when an instance begins or resumes a unit, for conditions on times. */
export interface ScanNow {
  readonly date: Date;
  /** The time `age` earlier. */
  minus(age: Duration): Date;
}

/** The options of {@link defineScan}: the table, the rows, and the code that handles them. */
export interface ScanOptions<Row extends Record<string, unknown>> {
  /** Identifies the scan in its tables: up to 80 letters, digits, dots, dashes and underscores. Unique within the state database. */
  readonly name: string;
  /** The shards to walk. One table of a shard is a unit. */
  readonly topology: Topology;
  /** Name of the table without its suffix. */
  readonly table: string;
  /**
   * The columns that order the scan: those of a unique index, in its order; none may be NULL or ever change. Ascending by default. A unit
   * whose table has no such index fails with `not-scannable`, and its error names the statement that creates the index.
   */
  readonly key: readonly (string | KeyColumn)[];
  /**
   * Adds conditions that select rows. The condition is wrapped in parentheses, so an OR in it cannot widen the scan. On MySQL and MariaDB it runs
   * under the scan's `sql_mode`, not that of your connections: a unit fails with `not-scannable` if it would mean something else there, as a name
   * in double quotes does under ANSI_QUOTES; the error says how to write it.
   */
  readonly where: (query: Knex.QueryBuilder, now: ScanNow) => void;
  /** Rows per call of `process`: a number, or `adaptive({ targetMs })`. Default 1,000. */
  readonly batch?: BatchPolicy;
  /**
   * Handles a batch. Each row is passed at least once, in the order of the key within its unit. Returns nothing, or an array with one
   * {@link RowResult} per row, such as the results of a publisher; anything else fails the unit, before its checkpoint. If it throws, the
   * batch is bisected to find the rows that fail. An outage (a lost connection, an error that is `retryable`), thrown or returned, blames no
   * row: the same rows are passed again, for at most `outage`.
   */
  readonly process: (rows: readonly Row[], unit: ScanUnit<Row>) => ProcessResult | Promise<ProcessResult>;
  /** The most rows that one read may examine, matching or not. Lower it if reads of rare matches take too long. Default 50,000. */
  readonly window?: number;
  /**
   * A column of whole numbers that every change of a row increments. `unit.update` then writes only rows that have not changed since they were
   * read. A time, such as `updated_at`, is refused: two changes may have the same time.
   */
  readonly version?: string;
  /** The service's knex for leases and checkpoints. Its database needs the tables of `coreSchema` and `scanSchema`. */
  readonly state: Knex;
  /** The most units that one instance walks at a time. Default 4. */
  readonly concurrency?: number;
  /**
   * The most units of one database server that one instance walks at a time: databases of the topology with the same host and port are on one
   * server. Default 2. Raise it, up to `concurrency`, if the server has room.
   */
  readonly perDatabase?: number;
  /** The most units of one database server that all instances together walk at a time. Default: no limit. */
  readonly maxPerDatabase?: number;
  /**
   * How long a unit stays leased without a renewal: after a kill, another instance takes the unit after this time. It is renewed every
   * tenth of this time. Default 15 s, at least 200 ms.
   */
  readonly lease?: Duration;
  /** How long a unit waits for an unavailable database or service. After that the run leaves the unit to the next run. Default 30 s. */
  readonly outage?: Duration;
  /**
   * How long one call of `process` may take. After that `unit.signal` aborts, and the unit is left, with the error and without a checkpoint, to
   * the next run, which hands the same batch over: exit code 75. Default 10 minutes.
   */
  readonly processTimeout?: Duration;
  /**
   * How long a run that was stopped, by its signal or by `close`, waits for the batches under way. Then `unit.signal` aborts, and their units
   * are left as after `processTimeout`. Default 30 s.
   */
  readonly stopTimeout?: Duration;
  /** The most rows per second that one instance handles. Default: no limit. */
  readonly rate?: number;
  /**
   * Called before each batch; pauses the scan. {@link replicaLag}, {@link openHours}, your own function, or several: the longest wait
   * counts.
   */
  readonly throttle?: Throttle | readonly Throttle[];
  /** Default: core's `defaultLogger`. */
  readonly logger?: Logger;
}

/** The units that a run takes, and its end. Runs with the same `only` or `shard` share a pass; without either, a run takes every unit. */
export interface RunOptions {
  /** Only the databases with these numbers, as in a job's parameter: `'1,2'`. Excludes `shard`. */
  readonly only?: string;
  /** Only every `total`-th unit, beginning with unit `index` (from 0), as an xxl-job broadcast assigns them: `[0, 3]`. Excludes `only`. */
  readonly shard?: readonly [index: number, total: number];
  /** Ends the run after the current batch of each unit, at the latest after `stopTimeout`. The next run resumes the pass. */
  readonly signal?: AbortSignal;
}

/** The state of the pass when a run ended. */
export interface ScanResult {
  /** Number of the pass, from 1. */
  readonly pass: string;
  /** True if the run joined a pass that was in progress or interrupted; false if it began the pass. */
  readonly resumed: boolean;
  readonly units: readonly UnitProgress[];
  /** 0: every unit is done. 1: units or rows failed, or the pass was cancelled. 75 (EX_TEMPFAIL): units are unfinished; run the scan again to resume them. */
  readonly exitCode: 0 | 1 | 75;
}

/** What became of the rows that had failed. */
export interface RedriveResult extends RedriveCounts {
  /** Units whose failed rows are left, because an instance walks the unit, or of an outage or a time-out. */
  readonly left: readonly string[];
  /** 0: no failed row is left. 1: rows failed again. 75: units are left; call it again. */
  readonly exitCode: 0 | 1 | 75;
}

/** Events of a scan, in this process. Each is emitted after the write that it reports; a process that dies in between loses the event. */
export interface ScanEvents {
  /** This instance has leased a unit and is about to walk it. Repeated for each instance that takes the unit. */
  'unit:started': {
    readonly unit: string;
    readonly pass: string;
    /** Epoch of the lease: higher than those of all leases of this unit before. */
    readonly epoch: number;
  };
  /** The checkpoint of a batch is written. Batches without a matching row are not reported. */
  'batch:handled': { readonly unit: string; readonly matched: number; readonly handled: number };
  /** A row failed; its key and error are stored in `scan_failure` with the batch's checkpoint. */
  'row:failed': { readonly unit: string } & RowFailure;
  /** This instance no longer walks the unit. `how` tells whether the unit has ended (`done`, `failed`) or is open (`left`, `lost`). */
  'unit:ended': { readonly unit: string; readonly how: WalkEnd };
}
