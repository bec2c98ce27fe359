import type { ProgressReports } from '@holdfast/core';
import {
  type ClaimedRow,
  type Effects,
  monotonicMs,
  RowsPassedOnError,
  type RunningRow,
  type Telemetry,
  type Verdict,
  type Verdicts,
} from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { BatchCall, type ParsedRow } from './batch-call.ts';
import { parseContext } from './parse-context.ts';
import { RunTimeout } from './run-timeout.ts';
import { thrown } from './verdicts.ts';

/** The parts that a batch runs with. */
export interface BatchParts {
  readonly registry: Registry;
  readonly telemetry: Telemetry;
  readonly type: BizType<unknown, unknown>;
  readonly handler: NonNullable<Registered['many']>;
  readonly reports: ProgressReports;
  readonly commit: (rows: readonly ClaimedRow[], effects: Effects, results: ReadonlyMap<string, string>) => Promise<void>;
  /** Waits for a handler that has run longer than the timeout: see `HandlerRunner`. */
  readonly settleLate: (timeout: RunTimeout) => Promise<void>;
}

/**
 * Runs a batch handler over all rows whose context can be handled. If a call throws, the rows without a verdict are halved until the row
 * that fails is alone: a failed attempt is always of a row that ran by itself, so that one row can't fail its neighbours. Never throws.
 */
export async function runBatch(parts: BatchParts, rows: readonly RunningRow[]): Promise<Verdicts> {
  const { registry, type } = parts;
  const verdicts = new Map<string, Verdict | undefined>();
  const parsed: ParsedRow[] = [];
  for (const running of rows) {
    const context = await parseContext(registry, running.row, type);
    if ('verdict' in context) verdicts.set(running.row.id, context.verdict);
    else parsed.push({ running, context: context.context });
  }
  const waiting = parsed.length > 0 ? [parsed] : [];
  const give = (some: readonly ParsedRow[], verdict: (running: RunningRow) => Verdict): void => {
    for (const { running } of some) if (!verdicts.has(running.row.id)) verdicts.set(running.row.id, verdict(running));
  };
  let deadline: number | undefined;
  let isolated = false;
  for (let some = waiting.pop(); some !== undefined; some = waiting.pop()) {
    if (deadline !== undefined) {
      // The leases of these rows were lost, the rows were cancelled, or the worker stops.
      const aborted = some.filter(({ running }) => running.signal.aborted);
      give(aborted, () => ({ outcome: 'release' }));
      some = some.filter((row) => !aborted.includes(row));
      if (some.length === 0) continue;
      // A row has failed by itself, and the search for it has taken as long as one run may: the other rows run in another batch.
      if (isolated && monotonicMs() > deadline) {
        give(some, () => ({ outcome: 'release' }));
        continue;
      }
    }
    const failure = await callOnce(parts, some, verdicts);
    if (failure === undefined) continue;
    const open = some.filter(({ running }) => !verdicts.has(running.row.id));
    if (open.length === 0) {
      const ids = some.map(({ running }) => running.row.id);
      registry.logger.error({ err: failure.error, ids }, 'a batch handler threw after each of its rows had a verdict; the verdicts stand');
    } else if (failure.error instanceof RowsPassedOnError) {
      // One row of the batch was taken over: nothing was committed, and the others have not failed.
      give(open, () => ({ outcome: 'release' }));
    } else if (some.length === 1) {
      isolated = true;
      give(open, (running) => thrown(type.retry, running, failure.error));
    } else {
      deadline ??= monotonicMs() + type.timeoutMs;
      const half = Math.ceil(open.length / 2);
      if (open.length > half) waiting.push(open.slice(half));
      waiting.push(open.slice(0, half));
    }
  }
  return verdicts;
}

/** Calls the handler once, and gives the rows without a verdict theirs if it succeeds. Returns the error if it fails. */
async function callOnce(
  { registry, telemetry, type, handler, reports, commit, settleLate }: BatchParts,
  rows: readonly ParsedRow[],
  verdicts: Map<string, Verdict | undefined>,
): Promise<{ readonly error: unknown } | undefined> {
  const [first] = rows;
  if (!first) return undefined;
  const timeout = new RunTimeout(type, first.running);
  const batch = new BatchCall(rows, { registry, type, timeout, reports, commit, verdicts });
  const call = async (): Promise<unknown> => {
    if (!telemetry.recording) return handler(batch.items, batch);
    const origins = rows.map(({ running }) => running.row.payload.traceparent);
    return telemetry.span(`compensate-biz ${first.running.row.kind}`, origins, async () => handler(batch.items, batch));
  };
  try {
    await timeout.race(call());
    await batch.settled();
    if (batch.commitError) return batch.commitError;
    for (const { running } of rows) if (!verdicts.has(running.row.id)) verdicts.set(running.row.id, batch.success(running.row.id));
    return undefined;
  } catch (error) {
    await batch.settled().catch(() => undefined);
    batch.end();
    await settleLate(timeout);
    return { error };
  } finally {
    batch.end();
    timeout.clear();
    await batch.endReports();
  }
}
