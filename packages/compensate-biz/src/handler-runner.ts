import {
  type ClaimedRow,
  isTransient,
  LeaseLostError,
  type RunningRow,
  type Settlement,
  storedError,
  type Telemetry,
  transactionTrace,
  type Verdict,
  wait,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { CompensateBiz, Registered } from './biz.ts';
import type { BizType, BizTypes } from './biz-type.ts';
import { HandlerTimeoutError, InvalidContextError } from './errors.ts';
import { insertRows } from './insert-rows.ts';
import { describeIssues, type NewRow, newRow, type SubmitOptions } from './new-row.ts';
import {
  type Batch,
  type BatchItem,
  type Effects,
  outcome,
  outcomeOf,
  type Run,
  type RunOutcome,
  rejectVerdict,
  retryVerdict,
  snoozeVerdict,
  thrown,
} from './run.ts';
import { countChildren, handOnGates } from './settle-effects.ts';

/** What every row of a batch ended with; `undefined` for rows that were settled in a transaction of the handler's. */
type Verdicts = ReadonlyMap<string, Verdict | undefined>;

/** Calls handlers and turns what they do into verdicts. */
export class HandlerRunner {
  readonly #biz: CompensateBiz<BizTypes>;
  readonly #telemetry: Telemetry;
  readonly #parentTouched: (parentId: string) => void;

  constructor(biz: CompensateBiz<BizTypes>, telemetry: Telemetry, parentTouched: (parentId: string) => void) {
    this.#biz = biz;
    this.#telemetry = telemetry;
    this.#parentTouched = parentTouched;
  }

  /** Never throws. */
  async run(rows: readonly RunningRow[], worker: string): Promise<Verdicts> {
    const first = rows[0];
    const type = first && this.#biz.types[first.row.kind];
    const registered = first && this.#biz.handlers.get(first.row.kind);
    if (!first || !type || !registered) return new Map(rows.map(({ row }) => [row.id, { outcome: 'release' }]));
    if (registered.many) return this.#runBatch(rows, type, registered.many, worker);
    return new Map([[first.row.id, await this.#runOne(first, type, registered.one, worker)]]);
  }

  async #runOne(
    running: RunningRow,
    type: BizType<unknown, unknown>,
    handler: Registered['one'],
    worker: string,
  ): Promise<Verdict | undefined> {
    const { row } = running;
    const parsed = await parseContext(row, type);
    if ('verdict' in parsed) return parsed.verdict;
    const followUps: Promise<NewRow>[] = [];
    const limit = withTimeout(running, type);
    let committed = false;
    const run: Run = {
      id: row.id,
      bizId: row.payload.bizId ?? undefined,
      idempotencyKey: `compensate-biz:${row.id}`,
      attempt: row.attempts + row.lost + 1,
      tenant: row.group,
      subject: row.payload.subject ?? undefined,
      get signal() {
        return limit.signal();
      },
      commit: async (effects): Promise<RunOutcome> => {
        await this.#commit([row], effects, await Promise.all(followUps), worker, type.keep);
        committed = true;
        return outcome('committed');
      },
      retry: (options) => outcome(retryVerdict(type.retry, row.attempts, options)),
      reject: (reason) => outcome(rejectVerdict(reason)),
      snooze: (after) => outcome(snoozeVerdict(after)),
      submit: (kind, context, options: SubmitOptions = {}) => {
        const next = newRow(this.#biz.types, 262_144, kind, context, options);
        next.catch(() => undefined);
        followUps.push(next);
      },
    };
    try {
      const call = async (): Promise<unknown> => handler?.(parsed.context, run);
      const result = outcomeOf(await limit.race(this.#telemetry.span(`compensate-biz ${row.kind}`, row.payload.traceparent ?? null, call)));
      if (committed) return undefined;
      if (result !== undefined && result !== 'committed') return result;
      if (followUps.length === 0) return { outcome: 'done' };
      await this.#commit([row], () => undefined, await Promise.all(followUps), worker, type.keep);
      return undefined;
    } catch (error) {
      if (committed) return undefined;
      return thrown(type.retry, row.attempts, error);
    } finally {
      limit.clear();
    }
  }

  async #runBatch(
    rows: readonly RunningRow[],
    type: BizType<unknown, unknown>,
    handler: NonNullable<Registered['many']>,
    worker: string,
  ): Promise<Verdicts> {
    const verdicts = new Map<string, Verdict | undefined>();
    const items: (BatchItem<unknown> & { readonly row: ClaimedRow })[] = [];
    const kind = rows[0]?.row.kind ?? '';
    const limits: ReturnType<typeof withTimeout>[] = [];
    for (const running of rows) {
      const { row } = running;
      const parsed = await parseContext(row, type);
      if ('verdict' in parsed) {
        verdicts.set(row.id, parsed.verdict);
        continue;
      }
      const limit = withTimeout(running, type);
      limits.push(limit);
      items.push({
        id: row.id,
        bizId: row.payload.bizId ?? undefined,
        context: parsed.context,
        idempotencyKey: `compensate-biz:${row.id}`,
        attempt: row.attempts + row.lost + 1,
        tenant: row.group,
        row,
        get signal() {
          return limit.signal();
        },
      });
    }
    if (items.length === 0) return verdicts;
    const rowOf = (item: BatchItem<unknown>): ClaimedRow => (item as (typeof items)[number]).row;
    const batch: Batch<unknown> = {
      commit: async (effects) => {
        const live = items.filter((item) => !verdicts.has(item.id)).map(rowOf);
        if (live.length === 0) return;
        await this.#commit(live, effects, [], worker, type.keep);
        for (const row of live) verdicts.set(row.id, undefined);
      },
      retry: (item, options) => void verdicts.set(item.id, retryVerdict(type.retry, rowOf(item).attempts, options)),
      reject: (item, reason) => void verdicts.set(item.id, rejectVerdict(reason)),
      snooze: (item, after) => void verdicts.set(item.id, snoozeVerdict(after)),
    };
    try {
      const first = limits[0];
      const call = async (): Promise<unknown> => handler(items, batch);
      await (first ? first.race(this.#telemetry.span(`compensate-biz ${kind}`, null, call)) : call());
      for (const item of items) if (!verdicts.has(item.id)) verdicts.set(item.id, { outcome: 'done' });
    } catch (error) {
      // One row of the batch was taken over: nothing was committed, and the others have done nothing wrong.
      const lost = (error as { code?: unknown }).code === 'lease-lost';
      for (const item of items)
        if (!verdicts.has(item.id)) verdicts.set(item.id, lost ? { outcome: 'release' } : thrown(type.retry, item.row.attempts, error));
    } finally {
      for (const limit of limits) limit.clear();
    }
    return verdicts;
  }

  /**
   * Effects, follow-ups and SUCCESS in one transaction on the service's own knex, the settle last. Run again when it
   * loses a race; refused as a whole when a row is no longer ours.
   */
  async #commit(
    rows: readonly ClaimedRow[],
    effects: (trx: Knex.Transaction) => unknown,
    followUps: readonly NewRow[],
    worker: string,
    keep: boolean,
  ): Promise<void> {
    const { database } = this.#biz;
    const settlements: Settlement[] = rows.map((row) => ({ row, verdict: { outcome: 'done' }, keep }));
    const touched: string[] = [];
    const once = async (): Promise<void> => {
      let trace: Awaited<ReturnType<typeof transactionTrace>> | undefined;
      touched.length = 0;
      await database.knex.transaction(
        async (trx) => {
          trace = await transactionTrace(trx);
          const x = await database.within(trx, 'commit');
          await (effects as Effects)(trx, x);
          if (followUps.length > 0) await insertRows(database, x, followUps);
          const settled = await this.#biz.table.settleIn(x, settlements);
          const stale = rows.filter((row) => !settled.has(row.id));
          if (stale.length > 0) {
            throw new LeaseLostError(
              `Row ${stale
                .map((row) => row.id)
                .slice(0, 5)
                .join(
                  ', ',
                )} passed to another run before this one committed; its effects were rolled back. If this happens without crashes, the process is being starved or stopped for longer than the lease.`,
            );
          }
          const ended = rows.map((row) => ({ row, outcome: 'done' }));
          await handOnGates(database, this.#biz.table, x, ended);
          touched.push(...(await countChildren(database, x, worker, ended)));
        },
        database.family === 'sqlite' ? {} : { isolationLevel: 'read committed' },
      );
      if (trace?.outcome === 'rolled back')
        throw new LeaseLostError(
          'The server answered COMMIT with ROLLBACK: a statement in commit() failed and its error was swallowed. Let errors through.',
        );
    };
    for (let attempt = 1; ; attempt++) {
      try {
        await once();
        break;
      } catch (error) {
        const cause = (error as { cause?: unknown }).cause;
        if (attempt >= 6 || !(isTransient(error) || isTransient(cause))) throw error;
        await wait(5 * 2 ** attempt * Math.random());
      }
    }
    for (const parent of new Set(touched)) this.#parentTouched(parent);
    if (followUps.length > 0 || rows.some((row) => row.payload.gate !== null))
      this.#biz.wakeFor(followUps.length > 0 ? followUps : [{} as NewRow]);
    for (const row of rows) this.#biz.emit('task:succeeded', { id: row.id, type: row.kind });
  }
}

async function parseContext(
  row: ClaimedRow,
  type: BizType<unknown, unknown>,
): Promise<{ readonly context: unknown } | { readonly verdict: Verdict }> {
  const version = Number(row.payload.schemaVersion ?? 1);
  // A newer version during a rolling deploy: left for workers that know it.
  if (version > type.version)
    return {
      verdict: {
        outcome: 'snooze',
        afterMs: 30_000,
        reason: {
          name: 'NewerVersion',
          code: 'newer-version',
          message: `The row is of version ${version}; this worker knows up to ${type.version}.`,
        },
      },
    };
  try {
    let value: unknown = row.payload.context === null ? null : JSON.parse(row.payload.context ?? 'null');
    for (let from = version; from < type.version; from++) value = type.upcast[from]?.(value as never);
    let result = type.schema['~standard'].validate(value);
    if (result instanceof Promise) result = await result;
    if (result.issues)
      throw new InvalidContextError(`The context does not fit the schema of ${row.kind}: ${describeIssues(result.issues)}.`);
    return { context: result.value };
  } catch (error) {
    return { verdict: { outcome: 'dead', reason: 'rejected', error: storedError(error) } };
  }
}

/** The type's timeout over one run. The timer and the signal exist only when something needs them. */
function withTimeout(
  running: RunningRow,
  type: BizType<unknown, unknown>,
): { signal(): AbortSignal; race<T>(promise: Promise<T>): Promise<T>; clear(): void } {
  let controller: AbortController | undefined;
  let timer: NodeJS.Timeout | undefined;
  let signal: AbortSignal | undefined;
  let reason: Error | undefined;
  return {
    signal() {
      if (!signal) {
        controller = new AbortController();
        if (reason) controller.abort(reason);
        signal = AbortSignal.any([running.signal, controller.signal]);
      }
      return signal;
    },
    race(promise) {
      let fail: (error: Error) => void = () => undefined;
      const late = new Promise<never>((_, reject) => {
        fail = reject;
      });
      timer = setTimeout(() => {
        reason = new HandlerTimeoutError(running.row.kind, running.row.id, type.timeoutMs);
        controller?.abort(reason);
        fail(reason);
      }, type.timeoutMs);
      return Promise.race([promise, late]);
    },
    clear() {
      clearTimeout(timer);
    },
  };
}
