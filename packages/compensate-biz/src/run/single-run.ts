import type { Duration, RunningRow, Verdict } from '@holdfast/core';
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

/** One run of one row. */
export class SingleRun implements Run {
  readonly #registry: Registry;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #commit: RunParts['commit'];
  readonly #settleLate: RunParts['settleLate'];
  #limit: RunTimeout | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #committed = false;

  constructor({ registry, type, commit, settleLate }: RunParts, running: RunningRow) {
    this.#registry = registry;
    this.#running = running;
    this.#type = type;
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

  /** True if follow-ups wait to be written with the success. */
  get hasFollowUps(): boolean {
    return this.#followUps !== undefined;
  }

  async commit(effects: (trx: Knex.Transaction) => unknown): Promise<RunOutcome> {
    await this.#commit(effects, await Promise.all(this.#followUps ?? []));
    this.#committed = true;
    return outcome('committed');
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

  /** Waits for the handler's result within the type's timeout, and commits follow-ups with the success. */
  async finish(result: unknown): Promise<Verdict | undefined> {
    this.#limit ??= new RunTimeout(this.#type, this.#running);
    try {
      const verdict = outcomeVerdict(await this.#limit.race(Promise.resolve(result)));
      if (this.#committed) return undefined;
      if (verdict?.outcome !== 'done' || this.#followUps === undefined) return verdict;
      await this.#commit(() => undefined, await Promise.all(this.#followUps));
      return undefined;
    } catch (error) {
      await this.#settleLate(this.#limit);
      if (this.#committed) return undefined;
      return thrown(this.#type.retry, this.#running, error);
    } finally {
      this.#limit.clear();
    }
  }
}

/** The verdict that a handler's result stands for: an outcome of {@link Run}, or else success; `undefined` once committed. */
export function outcomeVerdict(result: unknown): Verdict | undefined {
  const given = outcomeOf(result);
  return given === 'committed' ? undefined : (given ?? { outcome: 'done' });
}
