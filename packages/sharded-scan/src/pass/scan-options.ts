import type { Duration, Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Topology } from '../route/topology.ts';
import type { Throttle } from '../throttle/throttle.ts';
import type { BatchPolicy } from '../walk/batch-size.ts';
import type { RowFailure, UnitProgress } from '../walk/scan-store.ts';
import type { ScanUnit } from '../walk/scan-unit.ts';
import type { KeyColumn } from '../walk/table-shape.ts';
import type { WalkEnd } from '../walk/unit-walk.ts';

/** The shard's clock when a unit is begun, for conditions on times. */
export interface ScanNow {
  readonly date: Date;
  /** That long before. */
  minus(age: Duration): Date;
}

/** What is walked, by which key, and what is done with the rows. */
export interface ScanOptions<Row extends Record<string, unknown>> {
  /** Names the scan in its tables. Each name once per service. */
  readonly name: string;
  readonly topology: Topology;
  /** Without its suffix. */
  readonly table: string;
  /** What it goes by: unique, not null, indexed, and never changed. Several columns in the order of their index. Ascending unless said. */
  readonly key: readonly (string | KeyColumn)[];
  /** Which rows. Stands in parentheses: an OR of yours stays yours. */
  readonly where: (query: Knex.QueryBuilder, now: ScanNow) => void;
  /** Default 1,000; or `adaptive({ targetMs })`. */
  readonly batch?: BatchPolicy;
  /**
   * Handles rows: at least once each, in batches, in the order of the key within a unit. Returns nothing, or an array
   * with, for each row, nothing or the error that it failed with ({@link RowResult}). What it throws is found out for which row it
   * was; an outage (a lost connection, a `retryable` error), thrown or returned, is tried again.
   */
  readonly process: (rows: readonly Row[], unit: ScanUnit<Row>) => unknown;
  /** Rows that one read goes past at most, matching or not. Default 50,000. */
  readonly window?: number;
  /** A column that changes with every change of a row, for `unit.update`. */
  readonly version?: string;
  /** Where leases and checkpoints are kept: a knex of the service. */
  readonly state: Knex;
  /** Units walked at a time by one instance. Default 4. */
  readonly concurrency?: number;
  /** Units walked at a time in one database. Default 2. */
  readonly perDatabase?: number;
  /** Units walked at a time in one database by all instances together, to spare its server. Default no limit. */
  readonly maxPerDatabase?: number;
  /** How long a unit stays an instance's without a sign of life. Default 15 s. */
  readonly lease?: Duration;
  /** How long a database may be away before its units are left for the next run. Default 30 s. */
  readonly outage?: Duration;
  /** Rows per second and instance at most. Default no limit. */
  readonly rate?: number;
  /** Asked before each batch: {@link replicaLag}, {@link openHours}, or a function of yours. The longest wait counts. */
  readonly throttle?: Throttle | readonly Throttle[];
  readonly logger?: Logger;
}

/** Which units one run walks, and what ends it. */
export interface RunOptions {
  /** Only these databases, as a job's parameter names them: `'1,2'`. */
  readonly only?: string;
  /** Only units whose number leaves this index, of so many: `[0, 3]`. As a broadcast gives it. */
  readonly shard?: readonly [index: number, total: number];
  /** Ends at the next batch of each unit; the pass can be taken up again. */
  readonly signal?: AbortSignal;
}

/** What a run saw when it ended. */
export interface ScanResult {
  readonly pass: string;
  /** Whether it took up a pass that was under way or broken off. */
  readonly resumed: boolean;
  readonly units: readonly UnitProgress[];
  /** 0: all done. 1: units failed, or rows did. 75 (EX_TEMPFAIL): to be taken up again. */
  readonly exitCode: 0 | 1 | 75;
}

/** Events of a scan, in this process, each after what it says was written. */
export interface ScanEvents {
  'unit:started': {
    readonly unit: string;
    readonly pass: string;
    /** Of the lease that it is walked under: higher than all before it. */
    readonly epoch: number;
  };
  'batch:handled': { readonly unit: string; readonly matched: number; readonly handled: number };
  'row:failed': { readonly unit: string } & RowFailure;
  'unit:ended': { readonly unit: string; readonly how: WalkEnd };
}
