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
import type { BatchSize } from './batch-size.ts';
import { handOver, isOutage } from './hand-over.ts';
import { Keyset, type Position } from './keyset.ts';
import type { BatchCounts, ScanStore } from './scan-store.ts';
import { ScanUnit } from './scan-unit.ts';
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
  /** Ms to wait before the next batch. */
  readonly throttle: (rows: number) => number | Promise<number>;
  /** How long an outage may last before the unit is left for later. */
  readonly outageMs: number;
  readonly onBatch: (counts: BatchCounts) => void;
  readonly logger: Logger;
}

/** How a walk ended: `left` for another, or for later; `lost` to another. */
export type WalkEnd = 'done' | 'failed' | 'left' | 'lost';

interface Batch<Row> {
  readonly rows: readonly Row[];
  /** Everything up to here is in this batch or before it. */
  readonly position: Position;
  readonly examined: number;
  readonly last: boolean;
}

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
  readonly #abort = new AbortController();
  #lease: Lease;
  #leaving = false;
  /** End of the window that is being read, and how many rows it holds. */
  #window: { readonly end: Position; readonly rows: number; readonly last: boolean } | undefined;
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
  }

  /** The lease was prolonged, or is gone. */
  renewed(lease: Lease | undefined): void {
    if (lease) this.#lease = lease;
    else
      this.#abort.abort(
        new LeaseLostError(`The unit ${this.shard.name} has passed to another instance. Stop; what is written now is not counted.`),
      );
  }

  async run(): Promise<WalkEnd> {
    const { store, pass, shard, logger } = this.#options;
    const { epoch } = this.#lease;
    try {
      const begun = await store.begin(this.#lease, shard.name, pass);
      // Somebody has ended it since we looked.
      if (!begun) return 'left';
      const ended = await this.#walk(begun.position, begun.bound);
      if (ended !== 'done') return ended;
      return (await store.finish(epoch, shard.name, 'done', undefined)) ? 'done' : 'lost';
    } catch (error) {
      if (this.#abort.signal.aborted || HoldfastError.is(error, 'lease-lost')) return 'lost';
      const stored: StoredError = storedError(error);
      if (isOutage(error)) {
        logger.warn({ err: error, unit: shard.name }, 'a unit is left for later: its database was away for too long');
        await store.note(epoch, shard.name, stored).catch(() => undefined);
        return 'left';
      }
      logger.error({ err: error, unit: shard.name }, 'a unit failed; the others go on');
      return (await store.finish(epoch, shard.name, 'failed', stored)) ? 'failed' : 'lost';
    }
  }

  async #walk(from: Position | undefined, knownBound: Position | undefined): Promise<WalkEnd> {
    const { database, store, table, key, version, shard, pass, batch } = this.#options;
    const { epoch } = this.#lease;
    const shape = await this.#patiently(() => tableShape(database, shard.tableName(table), key, version));
    const keyset = new Keyset(database, shape);
    const bound = knownBound ?? (await this.#patiently(() => keyset.last()));
    // Empty.
    if (!bound) return 'done';
    if (!knownBound && !(await store.setBound(epoch, shard.name, bound))) return 'lost';
    if (from && this.#same(from, bound)) return 'done';
    const unit = new ScanUnit<Row>({ shard, shape, signal: this.#abort.signal, database, version });
    const where = this.#options.where(await this.#patiently(() => database.now()));
    const read = (position: Position | undefined): Promise<Batch<Row>> => this.#patiently(() => this.#read(keyset, position, bound, where));
    for (let next: Promise<Batch<Row>> | undefined = read(from); next; ) {
      const current: Batch<Row> = await next;
      next = undefined;
      if (!current.last && !this.#leaving) {
        next = read(current.position);
        next.catch(ignore);
      }
      const started = monotonicMs();
      const counts = await this.#handle(current, unit, keyset);
      batch.took(current.rows.length, monotonicMs() - started);
      await checkpoint('scan:before-checkpoint');
      if (!(await this.#patiently(() => store.checkpoint(epoch, shard.name, pass, current.position, counts)))) return 'lost';
      await checkpoint('scan:after-checkpoint');
      this.#options.onBatch(counts);
      if (current.last) return 'done';
      if (this.#leaving) {
        await next?.catch(ignore);
        return 'left';
      }
      const pauseMs = await this.#options.throttle(current.rows.length);
      if (pauseMs > 0) await wait(pauseMs, this.#abort.signal);
    }
    return 'left';
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
      this.#abort.signal,
      (err) => {
        this.#outage(err);
        logger.warn({ err, unit: shard.name }, 'rows could not be handed over: something is away; they are handed over again');
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

  async #read(
    keyset: Keyset,
    position: Position | undefined,
    bound: Position,
    where: { readonly sql: string; readonly params: readonly unknown[] },
  ): Promise<Batch<Row>> {
    let window = this.#window;
    if (!window) {
      const end = await keyset.ahead(position, bound, this.#options.window);
      window =
        end && !this.#same(end, bound)
          ? { end, rows: this.#options.window, last: false }
          : { end: bound, rows: await keyset.count(position, bound), last: true };
      this.#window = window;
    }
    const limit = this.#options.batch.size;
    const rows = await keyset.read<Row>(position, window.end, where, limit);
    const last = rows.at(-1);
    if (rows.length >= limit && last) {
      const here = keyset.positionOf(last);
      if (!this.#same(here, window.end)) return { rows, position: here, examined: 0, last: false };
    }
    this.#window = undefined;
    return { rows, position: window.end, examined: window.rows, last: window.last };
  }

  #same(one: Position, other: Position): boolean {
    return one.every((text, i) => text === other[i]);
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
      await wait(pauseMs, this.#abort.signal);
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
