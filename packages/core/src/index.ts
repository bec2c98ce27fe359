export { Batcher, type BatcherOptions } from './batch/batcher.ts';
export { Drain, type DrainOptions } from './batch/drain.ts';
export { RowRemover } from './batch/row-remover.ts';
export { describeIssues } from './check/describe-issues.ts';
export { fitKey } from './check/fit-key.ts';
export { idText } from './check/id-text.ts';
export { type JsonText, jsonText } from './check/json-text.ts';
export { keyAsText } from './check/key-as-text.ts';
export { keyText } from './check/key-text.ts';
export { requireKnown } from './check/known-names.ts';
export { lostInJson } from './check/lost-in-json.ts';
export { notAPromise } from './check/not-a-promise.ts';
export { requireVersionColumn, requireVersionValue } from './check/version-column.ts';
export { wholeNumber } from './check/whole-number.ts';
export type { HoldfastConfig } from './cli/config.ts';
export { Breaker, type BreakerOptions, breakerOptions } from './coordination/breaker.ts';
export { KeyGate } from './coordination/key-gate.ts';
export { Once, type OnceEntry } from './coordination/once.ts';
export { RateWindow, type Starts } from './coordination/rate-window.ts';
export { type RateOptions, SharedRate } from './coordination/shared-rate.ts';
export { Slots } from './coordination/slots.ts';
export { afterCommit, requireTransaction, transactionTrace } from './database/after-commit.ts';
export { timestampAt, timestampMs } from './database/clock.ts';
export { compareTexts } from './database/compare-texts.ts';
export { currentRows, type ReadByKey, readsSnapshot } from './database/current-rows.ts';
export { Database, type DatabaseOptions, describeDatabase, openDatabase } from './database/database.ts';
export { deleteOlder } from './database/delete-older.ts';
export type { DatabaseDescription } from './database/describe-database.ts';
export type { Dialect } from './database/dialect.ts';
export { columnBytes, concat, forUpdate, insertNew, insertOrLock, quoted, skipLocked } from './database/dialect-sql.ts';
export { sqlModesOfService } from './database/given-sql-mode.ts';
export { insertIgnore } from './database/insert-ignore.ts';
export { insertedId, insertRow } from './database/inserted-id.ts';
export { rowsAtPresent } from './database/rows-at-present.ts';
export type { SqlRunner } from './database/sql-runner.ts';
export { statementParts } from './database/statement-parts.ts';
export { nullableColumns, tableColumns } from './database/table-columns.ts';
export { TransactionDatabase } from './database/transaction-database.ts';
export { isConnectionError, isTransient } from './database/transient.ts';
export { type UpdateFromValues, updateFromValues } from './database/update-from-values.ts';
export { type ValueTypes, valuesTable } from './database/values-table.ts';
export { cleanText, unfitText } from './errors/clean-text.ts';
export {
  CallTimeoutError,
  ClockBehindError,
  DatabaseUnavailableError,
  InvalidArgumentError,
  LeaseLostError,
  MigrationLockedError,
  MigrationRequiredError,
  NotInTransactionError,
  SchemaNewerError,
  TransactionDoomedError,
  TransientDatabaseError,
  UnsupportedDatabaseError,
} from './errors/errors.ts';
export { errorPage, HoldfastError, type HoldfastErrorOptions } from './errors/holdfast-error.ts';
export { shownValue } from './errors/shown-value.ts';
export { propertyOf, type StoredError, storedError } from './errors/stored-error.ts';
export { decodeSnowflake, type SnowflakeParts, SnowflakeSequence } from './ids/snowflake.ts';
export type { SnowflakeGenerator } from './ids/snowflake-guard.ts';
export { uuidv7 } from './ids/uuidv7.ts';
export { LaneFeed, type LaneFeedOptions } from './lane/lane-feed.ts';
export { laneOf } from './lane/lane-of.ts';
export { deleteLaneRows, type LaneRow, type LaneTableShape, laneRowsWhere } from './lane/lane-rows.ts';
export { type KeptLease, keepLease } from './lease/keep-lease.ts';
export { type LeaderLoopOptions, leaderLoop } from './lease/leader-loop.ts';
export { LeaseShare, type LeaseShareOptions } from './lease/lease-share.ts';
export { type Lease, LeaseTable } from './lease/lease-table.ts';
export { createSnowflake, type Snowflake, type SnowflakeOptions } from './lease/leased-snowflake.ts';
export { type GuardedSnowflake, type SnowflakeFromOptions, snowflakeFrom } from './lease/snowflake-from.ts';
export { lifecycle } from './loop/lifecycle.ts';
export { defineLoop, type Loop, type LoopOptions, type Pause } from './loop/loop.ts';
export { type Service, services } from './loop/service.ts';
export { checkTables } from './migrate/check-tables.ts';
export { coreSchema } from './migrate/core-schema.ts';
export { type AddedColumns, byteCollation, inByteCollation, keepTrailingSpaces } from './migrate/keep-trailing-spaces.ts';
export { checkMigrated, type Migrated, type MigrateOptions, migrate, migrationSql } from './migrate/migrate.ts';
export type { Migration, Schema } from './migrate/schema.ts';
export { SchemaWriter } from './migrate/schema-writer.ts';
export { callListener } from './observe/call-listener.ts';
export { checkpoint, setCheckpointHook } from './observe/checkpoint.ts';
export { type EventMap, type EventSource, Events } from './observe/events.ts';
export { guardLogger } from './observe/guard-logger.ts';
export { defaultLogger, type Logger, silentLogger } from './observe/logger.ts';
export { OutageLog } from './observe/outage-log.ts';
export { activeTraceparent, Telemetry } from './observe/telemetry.ts';
export { audit, requireActor } from './operate/audit.ts';
export { type BulkRow, type BulkSource, changeInBulk } from './operate/change-in-bulk.ts';
export { type Conditions, filterConditions } from './operate/filter-conditions.ts';
export { changeAudited, countUpTo, dateMs, filterTexts, type OperatorChange, pageLimit, requireFilters } from './operate/inspect-table.ts';
export type { Actor, BulkAction, BulkCounts, BulkFilter, BulkOptions, BulkPage, Inspectable, ListQuery } from './operate/inspectable.ts';
export { Backoff, every, exponential, steps } from './time/backoff.ts';
export { type BoundedCallOptions, boundedCall } from './time/bounded-call.ts';
export { type Duration, durationMs } from './time/duration.ts';
export { monotonicMs } from './time/monotonic.ts';
export { settledWithin } from './time/settled-within.ts';
export { startTimer, type Timer, timeoutSignal } from './time/timer.ts';
export { unlessGivenUp } from './time/unless-given-up.ts';
export { idle, wait } from './time/wait.ts';
export { wallClockMs } from './time/wall-clock.ts';
export { ChannelListeners } from './wake/channel-listeners.ts';
export { dataVersionWaker } from './wake/data-version-waker.ts';
export { type ListenWakerOptions, listenWaker } from './wake/listen-waker.ts';
export { localWaker } from './wake/local-waker.ts';
export { type WakeMessage, WakeMessages } from './wake/wake-messages.ts';
export type { WakeListener, Waker } from './wake/waker.ts';
export { Wakers } from './wake/wakers.ts';
export { Caps, type CapsOptions } from './work/effects/caps.ts';
export { type ChildCounts, Children, type ChildrenOptions, countOf, type ParentRecord } from './work/effects/children.ts';
export { SettleEffects, type SettleEffectsOptions, type StoppedRow } from './work/effects/settle-effects.ts';
export { type RepairExtent, Turns, type TurnsOptions } from './work/effects/turns.ts';
export type { ClaimCap, ClaimQuery } from './work/row/claim-rows.ts';
export { idList } from './work/row/id-list.ts';
export type { ReadyGroup, ReadyQuery } from './work/row/ready-groups.ts';
export type { ProgressReport } from './work/row/report-progress.ts';
export type { Rescued, RescueOptions } from './work/row/rescue-rows.ts';
export type { SettleHook, Settlement } from './work/row/settle-rows.ts';
export type { DeadReason, WorkState } from './work/row/states.ts';
export type { ClaimedRow, WorkTableShape } from './work/row/table-sql.ts';
export type { Outcome, Verdict } from './work/row/verdict.ts';
export { workColumns } from './work/row/work-columns.ts';
export { WorkTable } from './work/row/work-table.ts';
export { type CommitRows, commitRows, type Effects, RowsPassedOnError } from './work/run/commit-rows.ts';
export type { RunningRow } from './work/run/held-row.ts';
export type { KindPolicy } from './work/run/kind-policy.ts';
export { ProgressReports } from './work/run/progress-reports.ts';
export { type Verdicts, WorkRunner, type WorkRunnerOptions } from './work/run/work-runner.ts';
export { Orphans, type OrphansOptions } from './work/upkeep/orphans.ts';
export { createUpkeep, type Upkeep, type UpkeepOptions } from './work/upkeep/upkeep.ts';
