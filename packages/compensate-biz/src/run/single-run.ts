import type { Duration, RunningRow, Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizType } from '../biz-type.ts';
import { outcome, outcomeOf, type Progress, type Run, type RunOutcome } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type NewRow, newRow } from '../submit/new-row.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { progressJson } from './progress-json.ts';
import type { ProgressReports } from './progress-reports.ts';
import { type ResultJson, resultJson } from './result-json.ts';
import { RunTimeout } from './run-timeout.ts';
import { doneVerdict, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

type Commit = (effects: (trx: Knex.Transaction) => unknown, followUps: readonly NewRow[], result: ResultJson) => Promise<void>;

/** What a single run is given besides its row. */
export interface SingleRunParts {
  readonly registry: Registry;
  readonly type: BizType<unknown, unknown>;
  readonly reports: ProgressReports;
  readonly commit: Commit;
  /** Waits for a handler that was late: see `settleLate`. */
  readonly settleLate: (limit: RunTimeout) => Promise<void>;
}

/** One run of one row. */
export class SingleRun implements Run {
  readonly #registry: Registry;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #reports: ProgressReports;
  readonly #commit: Commit;
  readonly #settleLate: SingleRunParts['settleLate'];
  #limit: RunTimeout | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #reported = false;
  #committed = false;
  #ended = false;

  constructor(running: RunningRow, { registry, type, reports, commit, settleLate }: SingleRunParts) {
    this.#registry = registry;
    this.#running = running;
    this.#type = type;
    this.#reports = reports;
    this.#commit = commit;
    this.#settleLate = settleLate;
  }

  get id(): string {
    return this.#running.row.id;
  }

  get bizId(): string | undefined {
    return this.#running.row.payload.bizId ?? undefined;
  }

  get idempotencyKey(): string {
    return `compensate-biz:${this.id}`;
  }

  get attempt(): number {
    return this.#running.row.attempts + this.#running.row.lost + 1;
  }

  get tenant(): string {
    return this.#running.row.group;
  }

  get subject(): string | undefined {
    return this.#running.row.payload.subject ?? undefined;
  }

  get signal(): AbortSignal {
    this.#limit ??= new RunTimeout(this.#type, this.#running);
    return this.#limit.signal(this.#running);
  }

  /** True if something waits to be written before or with the verdict: follow-ups, or the last report. */
  get hasMore(): boolean {
    return this.#followUps !== undefined || this.#reported;
  }

  async commit(effects: (trx: Knex.Transaction) => unknown, options?: { readonly result?: unknown }): Promise<RunOutcome> {
    const result = await this.#json(options?.result);
    await this.#commitWith(effects, result);
    return outcome('committed');
  }

  progress(value: Progress): void {
    const json = progressJson(value);
    // A handler that ran past its timeout may still call.
    if (this.#ended || this.#committed) return;
    this.#reported = true;
    this.#reports.report(this.#running.row, json);
  }

  retry(options?: { readonly after?: Duration; readonly reason?: string }): RunOutcome {
    return outcome(retryVerdict(this.#type.retry, this.#running.row.attempts, options));
  }

  reject(reason: string): RunOutcome {
    return outcome(rejectVerdict(reason));
  }

  snooze(after: Duration): RunOutcome {
    return outcome(snoozeVerdict(after));
  }

  submit(type: string, context: unknown, options: SubmitOptions = {}): void {
    const next = newRow(this.#registry, type, context, options);
    // The commit awaits it, and throws its error.
    next.catch(() => undefined);
    (this.#followUps ??= []).push(next);
  }

  /**
   * The verdict that a handler's result stands for: an outcome of {@link Run}, or else success; `undefined` once committed.
   * @throws InvalidResultError
   */
  verdict(result: unknown): Verdict | undefined | Promise<Verdict> {
    const given = outcomeOf(result);
    if (given !== undefined) return given === 'committed' ? undefined : given;
    const json = this.#json(result);
    return json instanceof Promise ? json.then(doneVerdict) : doneVerdict(json);
  }

  /** Waits for the handler's result within the type's timeout, and commits follow-ups with the success. */
  async finish(result: unknown): Promise<Verdict | undefined> {
    this.#limit ??= new RunTimeout(this.#type, this.#running);
    const { row } = this.#running;
    let verdict: Verdict | undefined;
    try {
      const returned = await this.#limit.race(Promise.resolve(result));
      if (this.#committed) return undefined;
      const judged = this.verdict(returned);
      verdict = judged instanceof Promise ? await judged : judged;
      if (verdict?.outcome === 'done' && this.#followUps !== undefined) {
        await this.#commitWith(() => undefined, verdict.result);
        return undefined;
      }
    } catch (error) {
      await this.#settleLate(this.#limit);
      if (this.#committed) return undefined;
      verdict = thrown(this.#type.retry, this.#running, error);
    } finally {
      this.#ended = true;
      this.#limit.clear();
    }
    if (this.#reported) await this.#reports.end(row, verdict?.outcome === 'done');
    return verdict;
  }

  async #commitWith(effects: (trx: Knex.Transaction) => unknown, result: ResultJson): Promise<void> {
    const followUps = await Promise.all(this.#followUps ?? []);
    if (this.#reported) await this.#reports.end(this.#running.row, true);
    await this.#commit(effects, followUps, result);
    this.#committed = true;
  }

  #json(result: unknown): ResultJson | Promise<ResultJson> {
    return resultJson(this.#running.row.kind, this.#type, this.#registry.maxResultBytes, result);
  }
}
