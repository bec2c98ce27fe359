export { NoShardError, NotScannableError, ProcessTimeoutError, RowsNotTakenError } from './errors.ts';
export {
  type FailureView,
  inspectScans,
  type PassDetails,
  type PassStatus,
  type PassView,
  type ScanInspection,
} from './operate/inspect.ts';
export { defineScan, type Scan } from './pass/scan.ts';
export { scanJob } from './pass/scan-job.ts';
export type { RedriveResult, RunOptions, ScanEvents, ScanNow, ScanOptions, ScanResult } from './pass/scan-options.ts';
export { parseDatabases } from './route/parse-databases.ts';
export type { Shard, ShardLocation } from './route/shard.ts';
export { javaHashCode, javaSpread, type ShardHash, type ShardKey } from './route/shard-hash.ts';
export { createTopology, type Topology, type TopologyOptions } from './route/topology.ts';
export { scanSchema } from './schema.ts';
export { openHours } from './throttle/open-hours.ts';
export { replicaLag } from './throttle/replica-lag.ts';
export type { Throttle } from './throttle/throttle.ts';
export { type AdaptiveBatch, adaptive, type BatchPolicy } from './walk/batch-size.ts';
export type { RowFailure } from './walk/failed-rows.ts';
export type { ScanProgress, UnitProgress, UnitState } from './walk/progress.ts';
export type { ProcessResult, RowOutcome, RowResult } from './walk/row-result.ts';
export type { ScanUnit, UpdateOptions } from './walk/scan-unit.ts';
export type { KeyColumn } from './walk/table-shape.ts';
