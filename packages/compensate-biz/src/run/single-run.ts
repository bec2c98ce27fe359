import { type Duration, InvalidArgumentError, LeaseLostError, type RunningRow, type Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizType } from '../biz-type.ts';
import { outcome, outcomeOf, type Run, type RunOutcome } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type NewRow, newRow } from '../submit/new-row.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { RunTimeout } from './run-timeout.ts';
import { rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

/** What one run is made with. */
export interface RunParts {
  readonly registry: Registry;
  readonly type: BizType<unknown, unknown>;
  readonly commit: (effects: (trx: Knex.Transaction) => unknown, followUps: readonly NewRow[]) => Promise<void>;
  /** Waits for a handler that was late: see `settleLate`. */
  readonly settleLate: (limit: RunTimeout) => Promise<void>;
}

/** A commit that the handler has begun. */
interface Begun {
  state: 'open' | 'committed' | 'failed';
  readonly done: Promise<RunOutcome>;
  error?: unknown;
}

/**
 * One run of one row. It remembers what its handler has begun: a commit is waited for although the handler did not await it, and a verdict
 * stands although it was not returned. A call that comes too late to count throws.
 */
export class SingleRun implements Run {
  readonly #registry: Registry;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #write: RunParts['commit'];
  readonly #settleLate: RunParts['settleLate'];
  #limit: RunTimeout | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #commit: Begun | undefined;
  #verdict: Verdict | undefined;
  #ended = false;

  constructor({ registry, type, commit, settleLate }: RunParts, running: RunningRow) {
    this.#registry = registry;
    this.#running = running;
    this.#type = type;
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
    return this.#timeout.signal(this.#running);
  }

  get #timeout(): RunTimeout {
    this.#limit ??= new RunTimeout(this.#type, this.#running);
    return this.#limit;
  }

  commit(effects: (trx: Knex.Transaction) => unknown): Promise<RunOutcome> {
    const done = this.#begin(effects);
    // Without a handler of its own, the rejection of a commit that was not awaited would end the process.
    done.catch(() => undefined);
    return done;
  }

  async #begin(effects: (trx: Knex.Transaction) => unknown): Promise<RunOutcome> {
    if (this.#ended && this.#limit?.expired)
      throw new LeaseLostError(
        `Row ${this.id} was not committed: its run had ended with the type's timeout. Pass run.signal on, and stop.`,
      );
    this.#refuseLate('run.commit');
    if (this.#verdict) throw this.#misuse('run.commit', `the run had been given the verdict ${this.#verdict.outcome}`);
    const { promise, resolve, reject } = Promise.withResolvers<RunOutcome>();
    promise.catch(() => undefined);
    const begun: Begun = { state: 'open', done: promise };
    this.#commit = begun;
    try {
      await this.#write(effects, await Promise.all(this.#followUps ?? []));
      begun.state = 'committed';
      resolve(outcome('committed'));
    } catch (error) {
      begun.state = 'failed';
      begun.error = error;
      reject(error);
    }
    return promise;
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
    if (this.#commit && this.#commit.state !== 'failed')
      throw this.#misuse(call, `a commit of this run was ${this.#commit.state === 'open' ? 'under way' : 'done'}`);
  }

  #misuse(call: string, why: string): InvalidArgumentError {
    const error = new InvalidArgumentError(`${call} for row ${this.id} came too late and has no effect: ${why}.`);
    this.#registry.logger.error({ err: error, id: this.id, type: this.#running.row.kind }, `${call} came too late and has no effect`);
    return error;
  }

  /** Ends a run whose handler returned or threw without waiting. Makes a promise only if the handler has begun something on the run. */
  end(result: { readonly value: unknown } | { readonly error: unknown }): Verdict | undefined | Promise<Verdict | undefined> {
    const begun = this.#followUps !== undefined || this.#commit !== undefined || this.#verdict !== undefined;
    if (begun) return this.finish('error' in result ? Promise.reject(result.error) : Promise.resolve(result.value));
    this.#ended = true;
    this.#limit?.clear();
    if ('error' in result) return thrown(this.#type.retry, this.#running, result.error);
    const given = outcomeOf(result.value);
    return given === undefined || given === 'committed' ? { outcome: 'done' } : given;
  }

  /** Waits for the handler's result, and for a commit that it has begun, within the type's timeout. Commits follow-ups with the success. */
  async finish(result: Promise<unknown>): Promise<Verdict | undefined> {
    const limit = this.#timeout;
    let ended: { readonly value: unknown } | { readonly error: unknown };
    try {
      ended = { value: await limit.race(result) };
    } catch (error) {
      ended = { error };
    }
    if (this.#commit?.state === 'open') {
      try {
        await limit.race(this.#commit.done);
      } catch (error) {
        if (this.#commit.state === 'open') ended = { error };
      }
    }
    const late = 'error' in ended;
    // A late commit is not waited for: what it commits, it commits under the version of this run, or not at all.
    this.#ended = true;
    if (late) await this.#settleLate(limit);
    const verdict = this.#verdictOf(ended);
    try {
      if (verdict?.outcome !== 'done' || this.#followUps === undefined) return verdict;
      await this.#write(() => undefined, await Promise.all(this.#followUps));
      return undefined;
    } catch (error) {
      return thrown(this.#type.retry, this.#running, error);
    } finally {
      limit.clear();
    }
  }

  /** The verdict of a handler that has ended; `undefined` once it has committed. */
  #verdictOf(ended: { readonly value: unknown } | { readonly error: unknown }): Verdict | undefined {
    const threw = 'error' in ended;
    const given = threw ? undefined : outcomeOf(ended.value);
    if (this.#commit?.state === 'committed') {
      if (threw) this.#log(ended.error, 'the handler threw after its run had committed; the row is SUCCESS');
      return undefined;
    }
    if (threw) {
      if (!this.#verdict) return thrown(this.#type.retry, this.#running, ended.error);
      this.#log(ended.error, `the handler threw after it had given the verdict ${this.#verdict.outcome}, which stands`);
      return this.#verdict;
    }
    if (given !== undefined && given !== 'committed') return given;
    if (this.#verdict) return this.#verdict;
    // The handler went on after its commit had failed. Its effects were rolled back, so this is not a success.
    if (this.#commit?.state === 'failed') return thrown(this.#type.retry, this.#running, this.#commit.error);
    return { outcome: 'done' };
  }

  #log(error: unknown, message: string): void {
    this.#registry.logger.error({ err: error, id: this.id, type: this.#running.row.kind }, message);
  }
}
