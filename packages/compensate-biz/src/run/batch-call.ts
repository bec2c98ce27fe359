import { type ClaimedRow, type Duration, InvalidArgumentError, LeaseLostError, type RunningRow, type Verdict } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Batch, BatchItem } from '../handler.ts';
import type { Registry } from '../registry.ts';
import type { Effects } from './commit-run.ts';
import type { RunTimeout } from './run-timeout.ts';
import { rejectVerdict, retryVerdict, snoozeVerdict } from './verdicts.ts';

/** A row of a batch, with its context. */
export interface ParsedRow {
  readonly running: RunningRow;
  readonly context: unknown;
}

/** The parts of a call. */
export interface BatchCallParts {
  readonly registry: Registry;
  readonly type: BizType<unknown, unknown>;
  readonly limit: RunTimeout;
  readonly commit: (rows: readonly ClaimedRow[], effects: Effects) => Promise<void>;
  /** The verdicts of all rows, by id; `undefined` for a row that was committed. The call adds to them. */
  readonly verdicts: Map<string, Verdict | undefined>;
}

/** A commit that the handler has begun. */
interface Begun {
  state: 'open' | 'committed' | 'failed';
  readonly done: Promise<void>;
  error?: unknown;
}

/**
 * One call of a batch handler. As a `SingleRun`, it remembers what its handler has begun: a commit is waited for although the handler did not
 * await it, and a call that comes too late to count throws.
 */
export class BatchCall implements Batch<unknown> {
  readonly items: readonly BatchItem<unknown>[];
  readonly #parts: BatchCallParts;
  readonly #rows: ReadonlyMap<string, ClaimedRow>;
  #commit: Begun | undefined;
  #ended = false;

  constructor(rows: readonly ParsedRow[], parts: BatchCallParts) {
    this.#parts = parts;
    this.#rows = new Map(rows.map(({ running: { row } }) => [row.id, row]));
    this.items = rows.map(({ running, context }) => {
      const { row } = running;
      return {
        id: row.id,
        bizId: row.payload.bizId ?? undefined,
        context,
        idempotencyKey: `compensate-biz:${row.id}`,
        attempt: row.attempts + row.lost + 1,
        tenant: row.group,
        get signal() {
          return parts.limit.signal(running);
        },
      };
    });
  }

  /** The error of a commit that failed and was not followed by one that succeeded. */
  get commitError(): { readonly error: unknown } | undefined {
    return this.#commit?.state === 'failed' ? { error: this.#commit.error } : undefined;
  }

  commit(effects: Effects): Promise<void> {
    const done = this.#begin(effects);
    // Without a handler of its own, the rejection of a commit that was not awaited would end the process.
    done.catch(() => undefined);
    return done;
  }

  async #begin(effects: Effects): Promise<void> {
    const { commit, limit, verdicts } = this.#parts;
    if (this.#ended && limit.expired)
      throw new LeaseLostError(
        `${this.#name()} was not committed: its run had ended with the type's timeout. Pass the signals on, and stop.`,
      );
    this.#refuseLate('batch.commit');
    const live = [...this.#rows.values()].filter((row) => !verdicts.has(row.id));
    if (live.length === 0) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => undefined);
    const begun: Begun = { state: 'open', done: promise };
    this.#commit = begun;
    try {
      await commit(live, effects);
      begun.state = 'committed';
      for (const row of live) verdicts.set(row.id, undefined);
      resolve();
    } catch (error) {
      begun.state = 'failed';
      begun.error = error;
      reject(error);
    }
    return promise;
  }

  retry(item: BatchItem<unknown>, options?: { readonly after?: Duration; readonly reason?: string }): void {
    this.#give('batch.retry', item, (row) => retryVerdict(this.#parts.type.retry, row.attempts, options));
  }

  reject(item: BatchItem<unknown>, reason: string): void {
    this.#give('batch.reject', item, () => rejectVerdict(reason));
  }

  snooze(item: BatchItem<unknown>, after: Duration): void {
    this.#give('batch.snooze', item, () => snoozeVerdict(after));
  }

  #give(call: string, item: BatchItem<unknown>, verdict: (row: ClaimedRow) => Verdict): void {
    this.#refuseLate(call);
    const row = this.#rows.get(item?.id);
    if (!row) throw new InvalidArgumentError(`${call} was given an item that is not of this batch; pass one of its items.`);
    this.#parts.verdicts.set(row.id, verdict(row));
  }

  /** Waits for a commit that the handler has begun and not awaited. @throws if the time is up before that */
  async settled(): Promise<void> {
    if (this.#commit?.state !== 'open') return;
    try {
      await this.#parts.limit.race(this.#commit.done);
    } catch (error) {
      if (this.#commit.state === 'open') throw error;
    }
  }

  /** Accepts nothing more. */
  end(): void {
    this.#ended = true;
  }

  #refuseLate(call: string): void {
    if (this.#ended) throw this.#misuse(call, 'the handler had returned; await what the handler begins');
    if (this.#commit && this.#commit.state !== 'failed')
      throw this.#misuse(call, `a commit of this batch was ${this.#commit.state === 'open' ? 'under way' : 'done'}`);
  }

  #misuse(call: string, why: string): InvalidArgumentError {
    const error = new InvalidArgumentError(`${call} for ${this.#name()} came too late and has no effect: ${why}.`);
    this.#parts.registry.logger.error({ err: error, ids: [...this.#rows.keys()] }, `${call} came too late and has no effect`);
    return error;
  }

  #name(): string {
    const [first] = this.#rows.keys();
    return this.#rows.size > 1 ? `the batch of row ${first} and ${this.#rows.size - 1} more` : `row ${first}`;
  }
}
