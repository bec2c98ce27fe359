import type { ProgressReports } from '@holdfast/core';
import { type Duration, HoldfastError, InvalidArgumentError, LeaseLostError, type RunningRow, type Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizType } from '../biz-type.ts';
import { outcome, outcomeOf, type Progress, type Run, type RunOutcome } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type NewRow, newRow } from '../submit/new-row.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { BegunCommit } from './begun-commit.ts';
import { attemptOf, idempotencyKeyOf } from './identity.ts';
import { progressJson } from './progress-json.ts';
import { type ResultJson, resultJson } from './result-json.ts';
import { RunTimeout } from './run-timeout.ts';
import { doneVerdict, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

type Write = (effects: (trx: Knex.Transaction) => unknown, followUps: readonly NewRow[], result: ResultJson) => Promise<void>;

/** The parts of a single run besides its row. */
export interface SingleRunParts {
  readonly registry: Registry;
  readonly type: BizType<unknown, unknown>;
  readonly reports: ProgressReports;
  readonly commit: Write;
  /** Waits for a handler that has run longer than the timeout: see `HandlerRunner`. */
  readonly settleLate: (timeout: RunTimeout) => Promise<void>;
}

/** How a handler ended. */
type Ended = { readonly value: unknown } | { readonly error: unknown };

/**
 * One run of one row. It remembers what its handler has begun: a commit is waited for although the handler did not await it, and a verdict
 * stands although it was not returned. A call that comes too late to count throws.
 */
export class SingleRun implements Run {
  readonly #registry: Registry;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #reports: ProgressReports;
  readonly #write: Write;
  readonly #settleLate: SingleRunParts['settleLate'];
  #startedTimeout: RunTimeout | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #commit: BegunCommit<RunOutcome> | undefined;
  #verdict: Verdict | undefined;
  #reported = false;
  #ended = false;

  constructor(running: RunningRow, { registry, type, reports, commit, settleLate }: SingleRunParts) {
    this.#registry = registry;
    this.#running = running;
    this.#type = type;
    this.#reports = reports;
    this.#write = commit;
    this.#settleLate = settleLate;
  }

  get id(): string {
    return this.#running.row.id;
  }

  get bizId(): string | undefined {
    return this.#running.row.payload.bizId ?? undefined;
  }

  get idempotencyKey(): string {
    return idempotencyKeyOf(this.#running.row);
  }

  get attempt(): number {
    return attemptOf(this.#running.row);
  }

  get tenant(): string {
    return this.#running.row.group;
  }

  get subject(): string | undefined {
    return this.#running.row.payload.subject ?? undefined;
  }

  get parentId(): string | undefined {
    return this.#running.row.payload.parentId ?? undefined;
  }

  get signal(): AbortSignal {
    return this.#timeout.signal(this.#running);
  }

  get #timeout(): RunTimeout {
    this.#startedTimeout ??= new RunTimeout(this.#type, this.#running);
    return this.#startedTimeout;
  }

  commit(effects: (trx: Knex.Transaction) => unknown, options?: { readonly result?: unknown }): Promise<RunOutcome> {
    const done = this.#begin(effects, options?.result);
    // Without a handler of its own, the rejection of a commit that was not awaited would end the process.
    done.catch(() => undefined);
    return done;
  }

  async #begin(effects: (trx: Knex.Transaction) => unknown, result: unknown): Promise<RunOutcome> {
    if (this.#ended && this.#startedTimeout?.expired)
      throw new LeaseLostError(
        `Row ${this.id} was not committed: its run had ended with the type's timeout. Pass run.signal on, and stop.`,
      );
    this.#refuseLate('run.commit');
    if (this.#verdict) throw this.#misuse('run.commit', `the run had been given the verdict ${this.#verdict.outcome}`);
    const begun = new BegunCommit<RunOutcome>();
    this.#commit = begun;
    try {
      await this.#commitWith(effects, await this.#json(result));
      begun.succeed(outcome('committed'));
    } catch (error) {
      begun.fail(error);
    }
    return begun.done;
  }

  progress(value: Progress): void {
    const json = progressJson(value);
    // A handler that ran past its timeout may still call.
    if (this.#ended || this.#commit?.committed) return;
    this.#reported = true;
    this.#reports.report(this.#running.row, json);
  }

  retry(options?: { readonly after?: Duration; readonly reason?: string }): RunOutcome {
    return this.#give('run.retry', retryVerdict(this.#type.retry, this.#running.row.attempts, options));
  }

  reject(reason: string): RunOutcome {
    return this.#give('run.reject', rejectVerdict(reason));
  }

  snooze(after: Duration): RunOutcome {
    return this.#give('run.snooze', snoozeVerdict(after));
  }

  #give(call: string, verdict: Verdict): RunOutcome {
    this.#refuseLate(call);
    this.#verdict = verdict;
    return outcome(verdict);
  }

  submit(type: string, context: unknown, options: SubmitOptions = {}): void {
    this.#refuseLate('run.submit');
    const next = newRow(this.#registry, type, context, options);
    // The commit awaits it, and throws its error.
    next.catch(() => undefined);
    (this.#followUps ??= []).push(next);
  }

  /** @throws InvalidArgumentError if the run has ended, or a commit of it is under way or done */
  #refuseLate(call: string): void {
    if (this.#ended) throw this.#misuse(call, 'the handler had returned; await what the handler begins');
    const committing = this.#commit?.progress;
    if (committing) throw this.#misuse(call, `a commit of this run was ${committing}`);
  }

  #misuse(call: string, why: string): InvalidArgumentError {
    const error = new InvalidArgumentError(`${call} for row ${this.id} came too late and has no effect: ${why}.`);
    this.#registry.logger.error({ err: error, id: this.id, type: this.#running.row.kind }, `${call} came too late and has no effect`);
    return error;
  }

  /** Ends a run whose handler returned or threw without waiting. Makes a promise only if the handler began something, or reported progress. */
  end(ended: Ended): Verdict | undefined | Promise<Verdict | undefined> {
    const begun = this.#followUps !== undefined || this.#commit !== undefined || this.#verdict !== undefined || this.#reported;
    if (begun) return this.finish('error' in ended ? Promise.reject(ended.error) : Promise.resolve(ended.value));
    this.#ended = true;
    this.#startedTimeout?.clear();
    try {
      if ('error' in ended) throw ended.error;
      const verdict = this.#verdictOn(ended.value);
      return verdict instanceof Promise ? verdict.catch((error: unknown) => this.#thrown(error)) : verdict;
    } catch (error) {
      return this.#thrown(error);
    }
  }

  /** Waits for the handler's result, and for a commit that it has begun, within the type's timeout. Commits follow-ups with the success. */
  async finish(result: Promise<unknown>): Promise<Verdict | undefined> {
    const timeout = this.#timeout;
    let ended: Ended;
    try {
      ended = { value: await timeout.race(result) };
    } catch (error) {
      ended = { error };
    }
    if (this.#commit?.progress === 'under way') {
      try {
        await this.#commit.ended(timeout);
      } catch (error) {
        ended = { error };
      }
    }
    // A commit that is still under way is not waited for: it writes under the version of this run, or not at all.
    this.#ended = true;
    if ('error' in ended) await this.#settleLate(timeout);
    timeout.clear();
    let verdict: Verdict | undefined;
    try {
      verdict = await this.#judge(ended);
      if (verdict?.outcome === 'done' && this.#followUps !== undefined) {
        await this.#commitWith(() => undefined, verdict.result);
        verdict = undefined;
      }
    } catch (error) {
      verdict = this.#thrown(error);
    }
    // Also of a run that has committed: it may have reported while its commit was under way.
    if (this.#reported) await this.#reports.end(this.#running.row, verdict === undefined || verdict.outcome === 'done');
    return verdict;
  }

  /** The verdict of a handler that has ended; `undefined` once it has committed. @throws InvalidResultError */
  async #judge(ended: Ended): Promise<Verdict | undefined> {
    if (this.#commit?.committed) {
      if ('error' in ended) this.#log(ended.error, 'the handler threw after its run had committed; the row is SUCCESS');
      return undefined;
    }
    if ('error' in ended) {
      if (!this.#verdict) throw ended.error;
      this.#log(ended.error, `the handler threw after it had given the verdict ${this.#verdict.outcome}, which stands`);
      return this.#verdict;
    }
    const given = outcomeOf(ended.value);
    if (given !== undefined && given !== 'committed') return given;
    if (this.#verdict) return this.#verdict;
    // The handler continued after its commit had failed. Its effects were rolled back, so this is not a success.
    if (this.#commit?.failure) throw this.#commit.failure.error;
    return this.#verdictOn(ended.value);
  }

  /** The verdict that a handler's result stands for: an outcome of {@link Run}, or else success. @throws InvalidResultError */
  #verdictOn(result: unknown): Verdict | Promise<Verdict> {
    const given = outcomeOf(result);
    if (given !== undefined) return given === 'committed' ? { outcome: 'done' } : given;
    const json = this.#type.result === undefined ? this.#plainJson(result) : this.#json(result);
    return json instanceof Promise ? json.then(doneVerdict) : doneVerdict(json);
  }

  /**
   * The JSON of a result for which the type has no schema. A handler of one expression returns the value of that expression: the work is done, so
   * a value that can't be stored is left out.
   */
  #plainJson(result: unknown): ResultJson | Promise<ResultJson> {
    try {
      return this.#json(result);
    } catch (error) {
      if (!HoldfastError.is(error, 'invalid-result')) throw error;
      this.#log(error, 'the value that the handler returned can not be stored as its result; the row is SUCCESS without a result');
      return undefined;
    }
  }

  async #commitWith(effects: (trx: Knex.Transaction) => unknown, result: ResultJson): Promise<void> {
    const followUps = await Promise.all(this.#followUps ?? []);
    if (this.#reported) await this.#reports.end(this.#running.row, true);
    await this.#write(effects, followUps, result);
  }

  #json(result: unknown): ResultJson | Promise<ResultJson> {
    return resultJson(this.#running.row.kind, this.#type, this.#registry.maxResultBytes, result);
  }

  #thrown(error: unknown): Verdict {
    return thrown(this.#type.retry, this.#running, error);
  }

  #log(error: unknown, message: string): void {
    this.#registry.logger.error({ err: error, id: this.id, type: this.#running.row.kind }, message);
  }
}
