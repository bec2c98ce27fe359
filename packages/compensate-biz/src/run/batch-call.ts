import type { Effects, ProgressReports } from '@holdfast/core';
import { type ClaimedRow, type Duration, InvalidArgumentError, LeaseLostError, type RunningRow, type Verdict } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Batch, BatchItem, Progress } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { BegunCommit } from './begun-commit.ts';
import { attemptOf, idempotencyKeyOf } from './identity.ts';
import { progressJson } from './progress-json.ts';
import { resultJson } from './result-json.ts';
import type { RunTimeout } from './run-timeout.ts';
import { doneVerdict, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

/** A row of a batch, with its context. */
export interface ParsedRow {
  readonly running: RunningRow;
  readonly context: unknown;
}

/** The parts of a call. */
export interface BatchCallParts {
  readonly registry: Registry;
  readonly type: BizType<unknown, unknown>;
  readonly timeout: RunTimeout;
  readonly reports: ProgressReports;
  readonly commit: (rows: readonly ClaimedRow[], effects: Effects, results: ReadonlyMap<string, string>) => Promise<void>;
  /** The verdicts of all rows, by id; `undefined` for a row that was committed. The call adds to them. */
  readonly verdicts: Map<string, Verdict | undefined>;
}

/**
 * One call of a batch handler. As a `SingleRun`, it remembers what its handler has begun: a commit is waited for although the handler did not
 * await it, and a call that comes too late to count throws.
 */
export class BatchCall implements Batch<unknown> {
  readonly items: readonly BatchItem<unknown>[];
  readonly #parts: BatchCallParts;
  readonly #rows: ReadonlyMap<string, RunningRow>;
  readonly #results = new Map<string, string>();
  readonly #reported = new Set<RunningRow>();
  #validating: Promise<void>[] = [];
  #commit: BegunCommit<void> | undefined;
  #ended = false;

  constructor(rows: readonly ParsedRow[], parts: BatchCallParts) {
    this.#parts = parts;
    this.#rows = new Map(rows.map(({ running }) => [running.row.id, running]));
    this.items = rows.map(({ running, context }) => {
      const { row } = running;
      return {
        id: row.id,
        bizId: row.payload.bizId ?? undefined,
        context,
        idempotencyKey: idempotencyKeyOf(row),
        attempt: attemptOf(row),
        tenant: row.group,
        get signal() {
          return parts.timeout.signal(running);
        },
      };
    });
  }

  /** The error of a commit that failed and was not followed by one that succeeded. */
  get commitError(): { readonly error: unknown } | undefined {
    return this.#commit?.failure;
  }

  commit(effects: Effects): Promise<void> {
    const done = this.#begin(effects);
    // Without a handler of its own, the rejection of a commit that was not awaited would end the process.
    done.catch(() => undefined);
    return done;
  }

  async #begin(effects: Effects): Promise<void> {
    const { commit, timeout, verdicts } = this.#parts;
    if (this.#ended && timeout.expired)
      throw new LeaseLostError(
        `${this.#name()} was not committed: its run had ended with the type's timeout. Pass the signals on, and stop.`,
      );
    this.#refuseLate('batch.commit');
    const begun = new BegunCommit<void>();
    this.#commit = begun;
    try {
      await this.#validated();
      const live = [...this.#rows.values()].filter(({ row }) => !verdicts.has(row.id));
      if (live.length === 0) {
        this.#commit = undefined;
        return;
      }
      await Promise.all(live.map((running) => this.#endReport(running, true)));
      const rows = live.map(({ row }) => row);
      await commit(rows, effects, this.#results);
      for (const row of rows) verdicts.set(row.id, undefined);
      begun.succeed();
    } catch (error) {
      begun.fail(error);
    }
    return begun.done;
  }

  retry(item: BatchItem<unknown>, options?: { readonly after?: Duration; readonly reason?: string }): void {
    this.#give('batch.retry', item, ({ row }) => retryVerdict(this.#parts.type.retry, row.attempts, options));
  }

  reject(item: BatchItem<unknown>, reason: string): void {
    this.#give('batch.reject', item, () => rejectVerdict(reason));
  }

  snooze(item: BatchItem<unknown>, after: Duration): void {
    this.#give('batch.snooze', item, () => snoozeVerdict(after));
  }

  result(item: BatchItem<unknown>, value: unknown): void {
    const { registry, type, verdicts } = this.#parts;
    this.#refuseLate('batch.result');
    const running = this.#running('batch.result', item);
    const { id, kind } = running.row;
    const set = (json: string | undefined): void => {
      if (json === undefined) this.#results.delete(id);
      else this.#results.set(id, json);
    };
    const json = resultJson(kind, type, registry.maxResultBytes, value);
    if (!(json instanceof Promise)) set(json);
    else this.#validating.push(json.then(set, (error: unknown) => void verdicts.set(id, thrown(type.retry, running, error))));
  }

  progress(item: BatchItem<unknown>, value: Progress): void {
    const json = progressJson(value);
    const running = this.#running('batch.progress', item);
    // A handler that ran past its timeout may still call, and a row may have its verdict.
    if (this.#ended || this.#parts.verdicts.has(running.row.id)) return;
    this.#reported.add(running);
    this.#parts.reports.report(running.row, json);
  }

  async #validated(): Promise<void> {
    const validating = this.#validating;
    this.#validating = [];
    await Promise.all(validating);
  }

  async #endReport(running: RunningRow, succeeded: boolean): Promise<void> {
    if (this.#reported.delete(running)) await this.#parts.reports.end(running.row, succeeded);
  }

  #give(call: string, item: BatchItem<unknown>, verdict: (running: RunningRow) => Verdict): void {
    this.#refuseLate(call);
    const running = this.#running(call, item);
    this.#parts.verdicts.set(running.row.id, verdict(running));
  }

  #running(call: string, item: BatchItem<unknown>): RunningRow {
    const running = this.#rows.get(item?.id);
    if (!running) throw new InvalidArgumentError(`${call} was given an item that is not of this batch; pass one of its items.`);
    return running;
  }

  /** The verdict on a row that the handler gave none: success, with the row's result. */
  success(id: string): Verdict {
    return doneVerdict(this.#results.get(id));
  }

  /** Waits for the validations, and for the commit, that the handler has begun and not awaited. @throws HandlerTimeoutError if the time is up before */
  async settled(): Promise<void> {
    await this.#validated();
    if (this.#commit?.progress === 'under way') await this.#commit.ended(this.#parts.timeout);
  }

  /** Refuses every later call of the handler. */
  end(): void {
    this.#ended = true;
  }

  /** Writes the last reports of progress. Call it when the verdicts are known, and before they are written. */
  async endReports(): Promise<void> {
    const { verdicts } = this.#parts;
    await Promise.all([...this.#reported].map((running) => this.#endReport(running, verdicts.get(running.row.id)?.outcome === 'done')));
  }

  #refuseLate(call: string): void {
    if (this.#ended) throw this.#misuse(call, 'the handler had returned; await what the handler begins');
    const committing = this.#commit?.progress;
    if (committing) throw this.#misuse(call, `a commit of this batch was ${committing}`);
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
