import {
  checkpoint,
  type Database,
  HoldfastError,
  type Lease,
  LeaseLostError,
  type Logger,
  monotonicMs,
  type StoredError,
  storedError,
  wait,
} from '@holdfast/core';
import { NotScannableError } from '../errors.ts';
import type { Shard } from '../route/shard.ts';
import { type Batch, BatchReader } from './batch-reader.ts';
import type { BatchSize } from './batch-size.ts';
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
  /** SQL of what matches, of this moment by the shard's clock. */
  readonly where: (nowMs: number) => { readonly sql: string; readonly params: readonly unknown[] };
  readonly process: (rows: readonly Row[], unit: ScanUnit<Row>) => unknown;
  readonly batch: BatchSize;
  /** Rows that one read goes past at most, matching or not. */
  readonly window: number;
  /** Ms until so many rows may be handled, by the rate. */
  readonly pace: (rows: number) => number;
  /** Ms to wait before a batch and ask again; 0 to go on. */
  readonly throttle: () => Promise<number>;
  /** How long an outage may last before the unit is left for later. */
  readonly outageMs: number;
  readonly onBatch: (counts: BatchCounts) => void;
  readonly logger: Logger;
}

/** How a walk ended: `left` for another, or for later; `lost` to another. */
export type WalkEnd = 'done' | 'failed' | 'left' | 'lost';

/** A throttle is asked again after this long at the latest. */
const longestPauseMs = 5_000;

/**
 * Walks one unit from its last checkpoint to the bound that was taken when its pass began.
 *
 * The next batch is read while this one is handled, and it is handled when the checkpoint of this one is written: so a walk that is
 * killed replays one batch at most. A read goes past a bounded number of rows, and the position moves through windows in which
 * nothing matches: rare matches keep no read going for longer than the lease.
 */
export class UnitWalk<Row extends Record<string, unknown>> {
  readonly shard: Shard;
  readonly #options: WalkOptions<Row>;
  /** The unit is another's. */
  readonly #abort = new AbortController();
  /** That, or it is to be left: ends pauses. */
  readonly #stop = new AbortController();
  #lease: Lease;
  #leaving = false;
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

  /** Whether it was told to leave. */
  get asked(): boolean {
    return this.#leaving;
  }

  /** Ends at the next batch. */
  leave(): void {
    this.#leaving = true;
    this.#stop.abort(new Error('the unit is left'));
  }

  /** The lease was prolonged, or is gone. */
  renewed(lease: Lease | undefined): void {
    if (lease) {
      this.#lease = lease;
      return;
    }
    const lost = new LeaseLostError(
      `The unit ${this.shard.name} has passed to another instance. Stop; what is written now is not counted.`,
    );
    this.#abort.abort(lost);
    this.#stop.abort(lost);
  }

  async run(): Promise<WalkEnd> {
    const { store, pass, shard, logger } = this.#options;
    const { epoch } = this.#lease;
    try {
      const begun = await this.#patiently(() => store.begin(this.#lease.epoch, shard.name, pass));
      // Somebody has ended it since we looked.
      if (!begun) return 'left';
      return await this.#walk(begun.position, begun.bound);
    } catch (error) {
      if (this.#abort.signal.aborted || HoldfastError.is(error, 'lease-lost')) return 'lost';
      const stored: StoredError = storedError(error);
      try {
        if (!isOutage(error)) {
          logger.error({ err: error, unit: shard.name }, 'a unit failed; the others go on');
          return (await store.fail(epoch, shard.name, stored)) ? 'failed' : 'lost';
        }
        logger.warn({ err: error, unit: shard.name }, 'a unit is left for later: its database was away for too long');
        await store.note(epoch, shard.name, stored);
      } catch (err) {
        logger.warn({ err, unit: shard.name }, 'how a unit ended could not be written; it is taken up again');
      }
      return 'left';
    }
  }

  async #walk(from: Position | undefined, knownBound: Position | undefined): Promise<WalkEnd> {
    const { database, store, table, key, version, shard, batch } = this.#options;
    const { epoch } = this.#lease;
    const [shape, nowMs] = await this.#patiently(() =>
      Promise.all([tableShape(database, shard.tableName(table), key, version), database.now()]),
    );
    const keyset = new Keyset(database, shape);
    const bound = knownBound ?? (await this.#patiently(() => keyset.last()));
    if (!bound || (from && samePosition(from, bound))) return (await store.finish(epoch, shard.name)) ? 'done' : 'lost';
    // Written with the first checkpoint: a walk that is killed before it takes its bound once more.
    const expected = knownBound ? undefined : this.#patiently(() => keyset.estimate());
    expected?.catch(ignore);
    const unit = new ScanUnit<Row>({ shard, shape, signal: this.#abort.signal, database, version });
    const where = this.#options.where(nowMs);
    const reader = new BatchReader<Row>({
      keyset,
      bound,
      where,
      window: this.#options.window,
      size: () => batch.size,
      patiently: (ask) => this.#patiently(ask),
    });
    const read = (position: Position | undefined): Promise<Batch<Row>> => this.#patiently(() => reader.read(position));
    let first = !knownBound;
    for (let next: Promise<Batch<Row>> | undefined = read(from); next; ) {
      const current: Batch<Row> = await next;
      next = undefined;
      if (!current.last && !this.#leaving) {
        next = read(current.position);
        next.catch(ignore);
      }
      if (!(await this.#permitted(current.rows.length))) break;
      const started = monotonicMs();
      const counts = await this.#handle(current, unit, keyset);
      batch.took(current.rows.length, monotonicMs() - started);
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

  /** Written once, also where the answer to a first attempt was lost. */
  async #checkpoint({ position, last }: Batch<Row>, counts: BatchCounts, begun: Checkpoint['begun']): Promise<boolean> {
    const { store, shard, pass } = this.#options;
    const rate = this.#speed.after(counts.examined);
    let again = false;
    return this.#patiently(async () => {
      if (again && (await store.isAt(this.#lease.epoch, shard.name, position))) return true;
      again = true;
      return store.checkpoint({ epoch: this.#lease.epoch, unit: shard.name, pass, position, counts, rate, last, begun });
    });
  }

  /** Waits for the rate and the throttles. False if the unit is to be left meanwhile. */
  async #permitted(rows: number): Promise<boolean> {
    const turn = monotonicMs() + this.#options.pace(rows);
    while (!this.#leaving) {
      const ms = Math.max(turn - monotonicMs(), await this.#patiently(this.#options.throttle));
      if (ms <= 0) return true;
      await this.#pause(Math.min(ms, longestPauseMs));
    }
    return false;
  }

  /** Until the unit is to be left. @throws LeaseLostError if it is lost */
  async #pause(ms: number): Promise<void> {
    await wait(ms, this.#stop.signal).catch(ignore);
    this.#abort.signal.throwIfAborted();
  }

  async #handle(batch: Batch<Row>, unit: ScanUnit<Row>, keyset: Keyset): Promise<BatchCounts> {
    const { process, logger, shard } = this.#options;
    this.#checkLease();
    if (batch.rows.length === 0) return { examined: batch.examined, matched: 0, handled: 0, failures: [] };
    const { handled, failures } = await handOver(
      batch.rows,
      (rows) => {
        this.#checkLease();
        return process(rows, unit);
      },
      {
        signal: this.#abort.signal,
        onOutage: (err) => {
          this.#outage(err);
          logger.warn({ err, unit: shard.name }, 'rows could not be handed over: something is away; they are handed over again');
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

  /** Nothing is begun under a lease that may be over. */
  #checkLease(): void {
    this.#abort.signal.throwIfAborted();
    if (this.#lease.deadline > monotonicMs()) return;
    this.renewed(undefined);
    this.#abort.signal.throwIfAborted();
  }

  /** An outage of a database is waited out, for a while. */
  async #patiently<T>(ask: () => Promise<T>): Promise<T> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      this.#abort.signal.throwIfAborted();
      try {
        const answer = await ask();
        this.#outageSince = undefined;
        return answer;
      } catch (error) {
        if (error instanceof NotScannableError || !isOutage(error)) throw error;
        this.#outage(error);
      }
      await this.#pause(pauseMs);
    }
  }

  /** @throws the error of the outage when it has lasted for too long */
  #outage(error: unknown): void {
    const now = monotonicMs();
    this.#outageSince ??= now;
    if (now - this.#outageSince > this.#options.outageMs || this.#leaving) throw error;
  }
}

function ignore(): void {
  // Whoever awaits it hears of it.
}
