import type { Duration, RunningRow, Verdict } from '@holdfast/core';
import type { Knex } from 'knex';
import type { CompensateBiz } from '../biz.ts';
import type { BizType, BizTypes } from '../biz-type.ts';
import { outcome, outcomeOf, type Run, type RunOutcome, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from '../handler.ts';
import { type NewRow, newRow, type SubmitOptions } from '../submit/new-row.ts';
import { runTimeout } from './run-timeout.ts';

type Commit = (effects: (trx: Knex.Transaction) => unknown, followUps: readonly NewRow[]) => Promise<void>;

/** One run of one row. */
export class SingleRun implements Run {
  readonly #biz: CompensateBiz<BizTypes>;
  readonly #running: RunningRow;
  readonly #type: BizType<unknown, unknown>;
  readonly #commit: Commit;
  #limit: ReturnType<typeof runTimeout> | undefined;
  #followUps: Promise<NewRow>[] | undefined;
  #committed = false;

  constructor(biz: CompensateBiz<BizTypes>, running: RunningRow, type: BizType<unknown, unknown>, commit: Commit) {
    this.#biz = biz;
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

  /** Whether there is something to write beside the success. */
  get busy(): boolean {
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
    const next = newRow(this.#biz.types, this.#biz.maxContextBytes, type, context, options);
    // Awaited, and thrown, at the commit.
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

/** What a handler's result means: an outcome of {@link Run}, or success. */
export function outcomeVerdict(result: unknown): Verdict | undefined {
  const said = outcomeOf(result);
  return said === 'committed' ? undefined : (said ?? { outcome: 'done' });
}
