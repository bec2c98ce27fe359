import type { Duration, RunningRow, Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { BizType } from '../biz-type.ts';
import { outcome, outcomeOf, type Run, type RunOutcome } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type NewRow, newRow } from '../submit/new-row.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { runTimeout } from './run-timeout.ts';
import { rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

type Commit = (effects: (trx: Knex.Transaction) => unknown, followUps: readonly NewRow[]) => Promise<void>;

/** One run of one row. */
export class SingleRun implements Run {
  readonly #registry: Registry;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #commit: Commit;
  #limit: ReturnType<typeof runTimeout> | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #committed = false;

  constructor(registry: Registry, running: RunningRow, type: BizType<unknown, unknown>, commit: Commit) {
    this.#registry = registry;
    this.#running = running;
    this.#type = type;
    this.#commit = commit;
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
    this.#limit ??= runTimeout(this.#running, this.#type);
    return this.#limit.signal();
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
    this.#limit ??= runTimeout(this.#running, this.#type);
    try {
      const verdict = outcomeVerdict(await this.#limit.race(Promise.resolve(result)));
      if (this.#committed) return undefined;
      if (verdict?.outcome !== 'done' || this.#followUps === undefined) return verdict;
      await this.#commit(() => undefined, await Promise.all(this.#followUps));
      return undefined;
    } catch (error) {
      if (this.#committed) return undefined;
      return thrown(this.#type.retry, this.#running.row.attempts, error);
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
