import {
  type ClaimedRow,
  exponential,
  type Logger,
  type RunningRow,
  startTimer,
  storedError,
  type Verdict,
  type Verdicts,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { InvalidRunResultError, RunTimeoutError } from '../errors.ts';
import type { RunSettings } from '../job/definition.ts';
import type { JobRun, Processor } from './job-run.ts';
import { resultJson } from './result-json.ts';

/** What the runs of one worker share. */
export interface RunParts {
  readonly processors: ReadonlyMap<string, Processor>;
  readonly logger: Logger;
  readonly report: (row: ClaimedRow, json: string) => void;
  readonly commit: (row: ClaimedRow, effects: (trx: Knex.Transaction) => unknown, result: string | undefined) => Promise<void>;
}

/** Runs one row and returns its verdict; `undefined` if the run has committed itself. Never throws. */
export async function runJob(running: RunningRow, parts: RunParts): Promise<Verdicts> {
  const { row } = running;
  const processor = parts.processors.get(row.kind);
  if (!processor) return new Map([[row.id, { outcome: 'release' }]]);
  return new Map([[row.id, await attempt(running, processor, parts)]]);
}

async function attempt(running: RunningRow, processor: Processor, parts: RunParts): Promise<Verdict | undefined> {
  const { row } = running;
  const settings = JSON.parse(row.payload.settings ?? '{}') as RunSettings;
  const timeout = new AbortController();
  const late = Promise.withResolvers<never>();
  late.promise.catch(() => undefined);
  const { timeoutMs } = settings;
  const timer =
    timeoutMs === undefined
      ? undefined
      : startTimer(timeoutMs, () => {
          const error = new RunTimeoutError(row.id, timeoutMs);
          timeout.abort(error);
          late.reject(error);
        });
  let committed: Promise<void> | undefined;
  const run: JobRun = {
    id: row.id,
    job: row.kind,
    fireAt: row.payload.fireAt == null ? undefined : new Date(Number(row.payload.fireAt)),
    attempt: row.attempts + 1,
    signal: AbortSignal.any([running.signal, timeout.signal]),
    log: parts.logger,
    progress: (done, total) => parts.report(row, JSON.stringify({ done, ...(total === undefined ? {} : { total }) })),
    commit: (effects, options) => {
      committed = parts.commit(row, effects, resultJson(row.id, options?.result));
      committed.catch(() => undefined);
      return committed;
    },
  };
  try {
    const params = JSON.parse(row.payload.params ?? '{}') as never;
    const value = await Promise.race([Promise.resolve(processor(params, run)), late.promise]);
    if (committed) {
      await committed;
      return undefined;
    }
    const result = resultJson(row.id, value);
    return { outcome: 'done', ...(result === undefined ? {} : { result }) };
  } catch (error) {
    if (
      committed &&
      (await committed.then(
        () => true,
        () => false,
      ))
    ) {
      parts.logger.warn({ err: error, id: row.id }, 'the processor threw after its run had committed; the run is SUCCEEDED');
      return undefined;
    }
    return failedBy(running, settings, error);
  } finally {
    timer?.clear();
  }
}

function failedBy(running: RunningRow, { retry }: RunSettings, error: unknown): Verdict {
  // A worker that stops has interrupted the run; a deploy is not a failed attempt.
  if (running.interrupted && !RunTimeoutError.is(error, 'run-timeout')) return { outcome: 'release' };
  const stored = storedError(error);
  if (InvalidRunResultError.is(error, 'invalid-run-result')) return { outcome: 'dead', reason: 'rejected', error: stored };
  const schedule = retry && exponential({ first: retry.firstMs, factor: retry.factor, cap: retry.capMs }).upTo(retry.attempts);
  const afterMs = schedule?.delayMs(running.row.attempts + 1);
  return afterMs === undefined ? { outcome: 'dead', reason: 'exhausted', error: stored } : { outcome: 'retry', afterMs, error: stored };
}
