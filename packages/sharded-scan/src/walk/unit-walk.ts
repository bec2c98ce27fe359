import {
  boundedCall,
  checkpoint,
  type Database,
  HoldfastError,
  type Lease,
  LeaseLostError,
  type Logger,
  monotonicMs,
  type StoredError,
  startTimer,
  storedError,
  type Timer,
  wait,
} from '@holdfast/core';
import { NotScannableError, ProcessTimeoutError } from '../errors.ts';
import type { Shard } from '../route/shard.ts';
import { type Batch, BatchReader } from './batch-reader.ts';
import type { BatchSize } from './batch-size.ts';
import { callBounded } from './call-bounded.ts';
import { type Condition, requireSameMeaning } from './condition-modes.ts';
import { handOver, isOutage } from './hand-over.ts';
import { Keyset, type Position, samePosition } from './keyset.ts';
import type { BatchCounts, Checkpoint, ScanStore } from './scan-store.ts';
import { ScanUnit } from './scan-unit.ts';
import { Speed } from './speed.ts';
import { type KeyColumn, tableShape } from './table-shape.ts';

export interface WalkOptions<Row extends Record<string, unknown>> {
  readonly shard: Shard;
  readonly table: string;
  readonly key: readonly KeyColumn[];
  readonly version: string | undefined;
  readonly database: Database;
  readonly store: ScanStore;
  readonly lease: Lease;
  readonly pass: string;
  /** The scan's condition as SQL, for a time by the shard's clock. */
  readonly where: (nowMs: number) => Condition;
  readonly process: (rows: readonly Row[], unit: ScanUnit<Row>) => unknown;
  readonly batch: BatchSize;
  /** The most rows that one read may examine, matching or not. */
  readonly window: number;
  /** Reserves a turn for a number of rows under the scan's rate; returns the ms until it begins. */
  readonly pace: (rows: number) => number;
  /** Ms to wait before it is called again; 0 to continue with the batch. */
  readonly throttle: () => Promise<number>;
  /** How long an outage may last before the walk leaves the unit. */
  readonly outageMs: number;
  /** How long one call of `process` may take before the walk leaves the unit. */
  readonly processMs: number;
  /** How long a walk that was stopped may take to end its batch. */
  readonly stopMs: number;
  readonly onBatch: (counts: BatchCounts) => void;
  readonly logger: Logger;
}

/**
 * The end of a walk. `left`: the unit is open, for another instance or the next run. `lost`: another instance took the unit over because
 * the lease had expired.
 */
export type WalkEnd = 'done' | 'failed' | 'left' | 'lost';

/** A throttle is called again after at most this long. */
const longestPauseMs = 5_000;

/**
 * Walks one unit from its last checkpoint to its bound: the last key when the unit was begun in this pass.
 *
 * The next batch is read while the current one is handled, but it is handled only after the checkpoint of the current one is written: so
 * after a kill, at most one batch is handled again.
 */
export class UnitWalk<Row extends Record<string, unknown>> {
  readonly shard: Shard;
  readonly #options: WalkOptions<Row>;
  /** Aborts when the lease is lost, when a call took too long, and when the walk has ended. */
  readonly #abort = new AbortController();
  /** Aborts then too, and when the walk is to leave the unit: ends pauses. */
  readonly #stop = new AbortController();
  #lease: Lease;
  #leaving = false;
  #stopTimer: Timer | undefined;
  readonly #speed = new Speed();
  #outageSince: number | undefined;

  constructor(options: WalkOptions<Row>) {
    this.#options = options;
    this.shard = options.shard;
    this.#lease = options.lease;
  }

  get lease(): Lease {
    return this.#lease;
  }

  /** True once `leave` was called. */
  get leaving(): boolean {
    return this.#leaving;
  }

  /** Makes the walk end after the current batch. */
  leave(): void {
    this.#leaving = true;
    this.#stop.abort(new Error('the unit is left'));
  }

  /** Makes the walk end after the current batch, which has `stopMs` to end. */
  stop(): void {
    this.leave();
    const { stopMs } = this.#options;
    this.#stopTimer ??= startTimer(stopMs, () =>
      this.#giveUp(`process did not end the batch within ${stopMs} ms (stopTimeout) after the run was stopped`),
    );
  }

  /** Takes the renewed lease; `undefined` if the lease is lost. */
  onRenewal(lease: Lease | undefined): void {
    if (lease) {
      this.#lease = lease;
      return;
    }
    const lost = new LeaseLostError(
      `Another instance may hold the unit ${this.shard.name}, because the lease was lost. Stop; checkpoints of this walk are refused.`,
    );
    this.#abort.abort(lost);
    this.#stop.abort(lost);
  }

  async run(): Promise<WalkEnd> {
    const { store, pass, shard, logger } = this.#options;
    const { epoch } = this.#lease;
    try {
      const begun = await this.#retryOutages(() => store.begin(this.#lease.epoch, shard.name, pass));
      // Another instance has ended the unit since this one read its state.
      if (!begun) return 'left';
      return await this.#walk(begun.position, begun.bound);
    } catch (thrown) {
      const error: unknown = this.#abort.signal.aborted ? this.#abort.signal.reason : thrown;
      if (HoldfastError.is(error, 'lease-lost')) return 'lost';
      const stored: StoredError = storedError(error);
      try {
        if (!isOutage(error)) {
          logger.error({ err: error, unit: shard.name }, 'a unit failed; the other units continue');
          return (await store.fail(epoch, shard.name, stored)) ? 'failed' : 'lost';
        }
        logger.warn({ err: error, unit: shard.name }, 'a unit is left unfinished; a later run resumes it');
        await store.noteError(epoch, shard.name, stored);
      } catch (err) {
        logger.warn({ err, unit: shard.name }, 'the end of a unit could not be written; a later run resumes it');
      }
      return 'left';
    } finally {
      this.#stopTimer?.clear();
      // Whatever process has left behind must end with the walk: nothing protects the unit from here on.
      this.#abort.abort(new Error(`the walk of the unit ${shard.name} has ended`));
    }
  }

  /** Ends the walk though its batch has not ended. */
  #giveUp(what: string): void {
    const late = new ProcessTimeoutError(this.shard.name, what);
    this.#abort.abort(late);
    this.#stop.abort(late);
  }

  async #walk(from: Position | undefined, knownBound: Position | undefined): Promise<WalkEnd> {
    const { database, store, table, key, version, shard, batch } = this.#options;
    const { epoch } = this.#lease;
    const [shape, nowMs] = await this.#retryOutages(() =>
      Promise.all([tableShape(database, shard.tableName(table), key, version), database.now()]),
    );
    const keyset = new Keyset(database, shape);
    const bound = knownBound ?? (await this.#retryOutages(() => keyset.last()));
    if (!bound || (from && samePosition(from, bound))) return (await store.finish(epoch, shard.name)) ? 'done' : 'lost';
    // Written with the first checkpoint: if the walk is killed before that, the next one takes the bound anew.
    const expected = knownBound ? undefined : this.#retryOutages(() => keyset.estimate());
    expected?.catch(ignore);
    const unit = new ScanUnit<Row>({ shard, shape, signal: this.#abort.signal, database, version });
    const where = this.#options.where(nowMs);
    await this.#retryOutages(() => requireSameMeaning(database, shape.table, where));
    const reader = new BatchReader<Row>({
      keyset,
      bound,
      where,
      window: this.#options.window,
      size: () => batch.size,
      retryOutages: (ask) => this.#retryOutages(ask),
    });
    const read = (position: Position | undefined): Promise<Batch<Row>> => this.#retryOutages(() => reader.read(position));
    let first = !knownBound;
    for (let next: Promise<Batch<Row>> | undefined = read(from); next; ) {
      const current: Batch<Row> = await next;
      next = undefined;
      if (!current.last && !this.#leaving) {
        next = read(current.position);
        next.catch(ignore);
      }
      if (!(await this.#waitForTurn(current.rows.length))) break;
      const started = monotonicMs();
      const counts = await this.#handle(current, unit, keyset);
      batch.adjust(current.rows.length, monotonicMs() - started);
      await checkpoint('scan:before-checkpoint');
      const begun = first ? { bound, expected: await expected } : undefined;
      if (!(await this.#checkpoint(current, counts, begun))) return 'lost';
      first = false;
      await checkpoint('scan:after-checkpoint');
      this.#options.onBatch(counts);
      if (current.last) return 'done';
      if (this.#leaving) break;
    }
    return 'left';
  }

  /** Writes the checkpoint exactly once, even if the answer to an attempt is lost. */
  async #checkpoint({ position, last }: Batch<Row>, counts: BatchCounts, begun: Checkpoint['begun']): Promise<boolean> {
    const { store, shard, pass } = this.#options;
    const rate = this.#speed.record(counts.examined);
    let again = false;
    return this.#retryOutages(async () => {
      if (again && (await store.isAt(this.#lease.epoch, shard.name, position))) return true;
      again = true;
      return store.checkpoint({ epoch: this.#lease.epoch, unit: shard.name, pass, position, counts, rate, last, begun });
    });
  }

  /** Waits for the rate and the throttles. Returns false if the walk must leave the unit during the wait. */
  async #waitForTurn(rows: number): Promise<boolean> {
    const turn = monotonicMs() + this.#options.pace(rows);
    while (!this.#leaving) {
      const asked = this.#retryOutages(() => this.#askThrottle());
      const ms = Math.max(turn - monotonicMs(), await this.#untilStopped(asked, longestPauseMs));
      if (ms <= 0) return true;
      await this.#pause(Math.min(ms, longestPauseMs));
    }
    return false;
  }

  /** A throttle that does not answer counts as an outage. */
  async #askThrottle(): Promise<number> {
    const { throttle, outageMs } = this.#options;
    return boundedCall(throttle, { name: 'throttle', ms: outageMs });
  }

  /** The result of user code, or `otherwise` once the walk must leave the unit: code that never answers must not keep a run from ending. */
  async #untilStopped<T>(result: Promise<T>, otherwise: T): Promise<T> {
    const { signal } = this.#stop;
    let stop = (): void => undefined;
    const stopped = new Promise<T>((resolve) => {
      stop = () => resolve(otherwise);
    });
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      return await Promise.race([result, stopped]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** Waits; ends early when the walk must leave the unit. @throws LeaseLostError if the lease is lost */
  async #pause(ms: number): Promise<void> {
    await wait(ms, this.#stop.signal).catch(ignore);
    this.#abort.signal.throwIfAborted();
  }

  async #handle(batch: Batch<Row>, unit: ScanUnit<Row>, keyset: Keyset): Promise<BatchCounts> {
    const { process, processMs, logger, shard } = this.#options;
    this.#checkLease();
    if (batch.rows.length === 0) return { examined: batch.examined, matched: 0, handled: 0, failures: [] };
    const { handled, failures } = await handOver(
      batch.rows,
      (rows) => {
        this.#checkLease();
        return callBounded(() => process(rows, unit), {
          ms: processMs,
          signal: this.#abort.signal,
          onLate: () => this.#giveUp(`process did not end a batch of ${rows.length} rows within ${processMs} ms (processTimeout)`),
        });
      },
      {
        signal: this.#abort.signal,
        onOutage: (err) => {
          this.#checkOutage(err);
          logger.warn({ err, unit: shard.name }, 'rows could not be handled because a service was unavailable; retrying');
        },
        pause: (ms) => this.#pause(ms),
      },
    );
    this.#outageSince = undefined;
    return {
      examined: batch.examined,
      matched: batch.rows.length,
      handled,
      failures: failures.map(({ row, error }) => ({ key: keyset.positionOf(row), error })),
    };
  }

  /** @throws LeaseLostError if the lease may have expired: no work begins under such a lease */
  #checkLease(): void {
    this.#abort.signal.throwIfAborted();
    if (this.#lease.deadline > monotonicMs()) return;
    this.onRenewal(undefined);
    this.#abort.signal.throwIfAborted();
  }

  /** Calls `ask` again, with growing pauses, while it fails because of an outage. */
  async #retryOutages<T>(ask: () => Promise<T>): Promise<T> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      this.#abort.signal.throwIfAborted();
      try {
        const answer = await ask();
        this.#outageSince = undefined;
        return answer;
      } catch (error) {
        if (error instanceof NotScannableError || !isOutage(error)) throw error;
        this.#checkOutage(error);
      }
      await this.#pause(pauseMs);
    }
  }

  /** Notes an outage. @throws its error if the outage has lasted too long, or the walk must leave the unit */
  #checkOutage(error: unknown): void {
    const now = monotonicMs();
    this.#outageSince ??= now;
    if (now - this.#outageSince > this.#options.outageMs || this.#leaving) throw error;
  }
}

function ignore(): void {
  // The code that awaits the promise handles the error.
}
