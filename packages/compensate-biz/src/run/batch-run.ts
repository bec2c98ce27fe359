import type { ClaimedRow, RunningRow, Telemetry, Verdict, Verdicts } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Batch, BatchItem, Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type Effects, RowsPassedOnError } from './commit-run.ts';
import { parseContext } from './parse-context.ts';
import { progressJson } from './progress-json.ts';
import type { ProgressReports } from './progress-reports.ts';
import { resultJson } from './result-json.ts';
import { RunTimeout } from './run-timeout.ts';
import { doneVerdict, rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

/** The parts that a batch runs with. */
export interface BatchParts {
  readonly registry: Registry;
  readonly telemetry: Telemetry;
  readonly type: BizType<unknown, unknown>;
  readonly handler: NonNullable<Registered['many']>;
  readonly reports: ProgressReports;
  readonly commit: (rows: readonly ClaimedRow[], effects: Effects, results: ReadonlyMap<string, string>) => Promise<void>;
  /** Waits for a handler that was late. */
  readonly settleLate: (limit: RunTimeout) => Promise<void>;
}

type Item = BatchItem<unknown> & { readonly row: ClaimedRow; readonly running: RunningRow };

/** Calls a batch handler once with all rows whose context can be handled. Never throws. */
export async function runBatch(parts: BatchParts, rows: readonly RunningRow[]): Promise<Verdicts> {
  const { registry, telemetry, type, handler, reports, commit, settleLate } = parts;
  const verdicts = new Map<string, Verdict | undefined>();
  const items: Item[] = [];
  let limit: RunTimeout | undefined;
  for (const running of rows) {
    const { row } = running;
    const parsed = await parseContext(registry, row, type);
    if ('verdict' in parsed) {
      verdicts.set(row.id, parsed.verdict);
      continue;
    }
    const timeout = (limit ??= new RunTimeout(type, running));
    items.push({
      id: row.id,
      bizId: row.payload.bizId ?? undefined,
      context: parsed.context,
      idempotencyKey: `compensate-biz:${row.id}`,
      attempt: row.attempts + row.lost + 1,
      tenant: row.group,
      row,
      running,
      get signal() {
        return timeout.signal(running);
      },
    });
  }
  const [first] = items;
  if (!first || !limit) return verdicts;
  const results = new Map<string, string>();
  let validating: Promise<void>[] = [];
  const validated = async (): Promise<void> => {
    const pending = validating;
    validating = [];
    await Promise.all(pending);
  };
  const reported = new Map<string, ClaimedRow>();
  let ended = false;
  const rowOf = (item: BatchItem<unknown>): ClaimedRow => (item as Item).row;
  const batch: Batch<unknown> = {
    commit: async (effects) => {
      await validated();
      const live = items.filter((item) => !verdicts.has(item.id)).map(rowOf);
      if (live.length === 0) return;
      for (const { id } of live) await endReport(id, true);
      await commit(live, effects, results);
      for (const row of live) verdicts.set(row.id, undefined);
    },
    retry: (item, options) => void verdicts.set(item.id, retryVerdict(type.retry, rowOf(item).attempts, options)),
    reject: (item, reason) => void verdicts.set(item.id, rejectVerdict(reason)),
    snooze: (item, after) => void verdicts.set(item.id, snoozeVerdict(after)),
    result: (item, value) => {
      const set = (json: string | undefined): void => {
        if (json === undefined) results.delete(item.id);
        else results.set(item.id, json);
      };
      const json = resultJson(first.row.kind, type, registry.maxResultBytes, value);
      if (!(json instanceof Promise)) set(json);
      else
        validating.push(json.then(set, (error: unknown) => void verdicts.set(item.id, thrown(type.retry, (item as Item).running, error))));
    },
    progress: (item, value) => {
      const json = progressJson(value);
      // A handler that ran past its timeout may still call, and a row may have its verdict.
      if (ended || verdicts.has(item.id)) return;
      const row = rowOf(item);
      reported.set(row.id, row);
      reports.report(row, json);
    },
  };
  const endReport = async (id: string, succeeded: boolean): Promise<void> => {
    const row = reported.get(id);
    reported.delete(id);
    if (row) await reports.end(row, succeeded);
  };
  const call = async (): Promise<unknown> => {
    if (!telemetry.recording) return handler(items, batch);
    const origins = items.map(({ row }) => row.payload.traceparent);
    return telemetry.span(`compensate-biz ${first.row.kind}`, origins, async () => handler(items, batch));
  };
  try {
    await limit.race(call());
    await validated();
    for (const item of items) if (!verdicts.has(item.id)) verdicts.set(item.id, doneVerdict(results.get(item.id)));
  } catch (error) {
    await settleLate(limit);
    // A row of the batch was taken over: nothing was committed, and the others have not failed.
    const passedOn = error instanceof RowsPassedOnError;
    for (const { id, running } of items)
      if (!verdicts.has(id)) verdicts.set(id, passedOn ? { outcome: 'release' } : thrown(type.retry, running, error));
  } finally {
    ended = true;
    limit.clear();
  }
  await Promise.all([...reported.keys()].map((id) => endReport(id, verdicts.get(id)?.outcome === 'done')));
  return verdicts;
}
