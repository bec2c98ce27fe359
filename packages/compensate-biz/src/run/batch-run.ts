import type { ClaimedRow, RunningRow, Telemetry, Verdict, Verdicts } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Batch, BatchItem, Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { type Effects, RowsPassedOnError } from './commit-run.ts';
import { parseContext } from './parse-context.ts';
import { RunTimeout } from './run-timeout.ts';
import { rejectVerdict, retryVerdict, snoozeVerdict, thrown } from './verdicts.ts';

/** The parts that a batch runs with. */
export interface BatchParts {
  readonly registry: Registry;
  readonly telemetry: Telemetry;
  readonly type: BizType<unknown, unknown>;
  readonly handler: NonNullable<Registered['many']>;
  readonly commit: (rows: readonly ClaimedRow[], effects: Effects) => Promise<void>;
  /** Waits for a handler that was late. */
  readonly settleLate: (limit: RunTimeout) => Promise<void>;
}

type Item = BatchItem<unknown> & { readonly row: ClaimedRow; readonly running: RunningRow };

/** Calls a batch handler once with all rows whose context can be handled. Never throws. */
export async function runBatch(
  { registry, telemetry, type, handler, commit, settleLate }: BatchParts,
  rows: readonly RunningRow[],
): Promise<Verdicts> {
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
  const rowOf = (item: BatchItem<unknown>): ClaimedRow => (item as Item).row;
  const batch: Batch<unknown> = {
    commit: async (effects) => {
      const live = items.filter((item) => !verdicts.has(item.id)).map(rowOf);
      if (live.length === 0) return;
      await commit(live, effects);
      for (const row of live) verdicts.set(row.id, undefined);
    },
    retry: (item, options) => void verdicts.set(item.id, retryVerdict(type.retry, rowOf(item).attempts, options)),
    reject: (item, reason) => void verdicts.set(item.id, rejectVerdict(reason)),
    snooze: (item, after) => void verdicts.set(item.id, snoozeVerdict(after)),
  };
  const call = async (): Promise<unknown> => {
    if (!telemetry.recording) return handler(items, batch);
    const origins = items.map(({ row }) => row.payload.traceparent);
    return telemetry.span(`compensate-biz ${first.row.kind}`, origins, async () => handler(items, batch));
  };
  try {
    await limit.race(call());
    for (const item of items) if (!verdicts.has(item.id)) verdicts.set(item.id, { outcome: 'done' });
  } catch (error) {
    await settleLate(limit);
    // A row of the batch was taken over: nothing was committed, and the others have not failed.
    const passedOn = error instanceof RowsPassedOnError;
    for (const { id, running } of items)
      if (!verdicts.has(id)) verdicts.set(id, passedOn ? { outcome: 'release' } : thrown(type.retry, running, error));
  } finally {
    limit.clear();
  }
  return verdicts;
}
