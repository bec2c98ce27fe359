import {
  type ClaimedRow,
  checkpoint,
  describeIssues,
  exponential,
  isTransient,
  LeaseLostError,
  type RunningRow,
  type Settlement,
  storedError,
  type Telemetry,
  transactionTrace,
  type Verdict,
  type Verdicts,
  wait,
} from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Knex } from 'knex';
import type { CompensateBiz, Registered } from '../biz.ts';
import type { BizType, BizTypes } from '../biz-type.ts';
import { InvalidContextError } from '../errors.ts';
import { freeSlots } from '../global-cap.ts';
import { type Batch, type BatchItem, type Effects, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from '../handler.ts';
import { insertRows } from '../submit/insert-rows.ts';
import type { NewRow } from '../submit/new-row.ts';
import { countChildren, handOnGates } from '../table/biz-effects.ts';
import { runTimeout } from './run-timeout.ts';
import { outcomeVerdict, SingleRun } from './single-run.ts';

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
  run(rows: readonly RunningRow[], worker: string): Verdicts | Promise<Verdicts> {
    const first = rows[0];
    const type = first && this.#biz.types[first.row.kind];
    const registered = first && this.#biz.handlers.get(first.row.kind);
    if (!first || !type || !registered) return new Map(rows.map(({ row }) => [row.id, { outcome: 'release' }]));
    if (registered.many) return this.#runBatch(rows, type, registered.many, worker);
    const verdict = this.#runOne(first, type, registered.one, worker);
    return verdict instanceof Promise ? verdict.then((settled) => new Map([[first.row.id, settled]])) : new Map([[first.row.id, verdict]]);
  }

  /** A handler that returns without waiting is settled without a promise, a timer or a signal being made for it. */
  #runOne(
    running: RunningRow,
    type: BizType<unknown, unknown>,
    handler: Registered['one'],
    worker: string,
  ): Verdict | undefined | Promise<Verdict | undefined> {
    const parsed = this.#parse(running.row, type);
    if (parsed instanceof Promise) return parsed.then((settled) => this.#runParsed(running, type, handler, worker, settled));
    return this.#runParsed(running, type, handler, worker, parsed);
  }

  #parse(row: ClaimedRow, type: BizType<unknown, unknown>): Parsed | Promise<Parsed> {
    if (Number(row.payload.schemaVersion ?? 1) > type.version) this.#biz.newerRows.add(row.kind, row.id);
    return parseContext(row, type);
  }

  #runParsed(
    running: RunningRow,
    type: BizType<unknown, unknown>,
    handler: Registered['one'],
    worker: string,
    parsed: Parsed,
  ): Verdict | undefined | Promise<Verdict | undefined> {
    if ('verdict' in parsed) return parsed.verdict;
    const run = new SingleRun(this.#biz, running, type, (effects, followUps) =>
      this.#commit([running.row], effects, followUps, worker, type.keep),
    );
    let result: unknown;
    try {
      const { kind, payload } = running.row;
      result = this.#telemetry.recording
        ? this.#telemetry.span(`compensate-biz ${kind}`, [payload.traceparent], async () => handler?.(parsed.context, run))
        : handler?.(parsed.context, run);
    } catch (error) {
      return thrown(type.retry, running.row.attempts, error);
    }
    if (typeof (result as PromiseLike<unknown> | undefined)?.then !== 'function' && !run.busy) return outcomeVerdict(result);
    return run.finish(result);
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
    const limits: ReturnType<typeof runTimeout>[] = [];
    for (const running of rows) {
      const { row } = running;
      const parsed = await this.#parse(row, type);
      if ('verdict' in parsed) {
        verdicts.set(row.id, parsed.verdict);
        continue;
      }
      const limit = runTimeout(running, type);
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
      const call = async (): Promise<unknown> => {
        if (!this.#telemetry.recording) return handler(items, batch);
        const origins = items.map((item) => rowOf(item).payload.traceparent);
        return this.#telemetry.span(`compensate-biz ${kind}`, origins, async () => handler(items, batch));
      };
      await (first ? first.race(call()) : call());
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
          const sql = await database.within(trx, 'commit');
          await (effects as Effects)(trx, sql);
          if (followUps.length > 0) await insertRows(database, sql, followUps);
          await checkpoint('commit:before-settle');
          const settled = await this.#biz.table.settleIn(sql, settlements);
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
          await handOnGates(database, this.#biz.table, sql, ended);
          await freeSlots(database, this.#biz.types, sql, rows);
          touched.push(...(await countChildren(database, sql, worker, ended)));
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
        await checkpoint('commit:after');
        break;
      } catch (error) {
        const cause = (error as { cause?: unknown }).cause;
        if (attempt >= 6 || !(isTransient(error) || isTransient(cause))) throw error;
        await wait(exponential({ first: 2, cap: 200 }).jitter(1).delayMs(attempt) ?? 200);
      }
    }
    for (const parent of new Set(touched)) this.#parentTouched(parent);
    if (followUps.length > 0 || rows.some((row) => row.payload.gate !== null))
      this.#biz.wakeFor(followUps.length > 0 ? followUps : [{} as NewRow]);
    for (const row of rows) this.#biz.emit('task:succeeded', { id: row.id, type: row.kind });
  }
}

type Parsed = { readonly context: unknown } | { readonly verdict: Verdict };

function parseContext(row: ClaimedRow, type: BizType<unknown, unknown>): Parsed | Promise<Parsed> {
  const version = Number(row.payload.schemaVersion ?? 1);
  if (version > type.version) {
    // Of a newer version, during a rolling deploy: left for workers that know it.
    const message = `The row is of version ${version}; this worker knows up to ${type.version}.`;
    return { verdict: { outcome: 'snooze', afterMs: 30_000, reason: { name: 'NewerVersion', code: 'newer-version', message } } };
  }
  const rejected = (error: unknown): Parsed => ({ verdict: { outcome: 'dead', reason: 'rejected', error: storedError(error) } });
  const judge = (result: StandardSchemaV1.Result<unknown>): Parsed =>
    result.issues
      ? rejected(new InvalidContextError(`The context does not fit the schema of ${row.kind}: ${describeIssues(result.issues)}.`))
      : { context: result.value };
  try {
    let value: unknown = JSON.parse(row.payload.context ?? 'null');
    for (let from = version; from < type.version; from++) value = type.upcast[from]?.(value as never);
    const result = type.schema['~standard'].validate(value);
    return result instanceof Promise ? result.then(judge, rejected) : judge(result);
  } catch (error) {
    return rejected(error);
  }
}
