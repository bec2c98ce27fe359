import type { ProgressReports, RunningRow, Telemetry, Verdict, Verdicts } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { runBatch } from './batch-run.ts';
import { type Commit, type Committer, commitRun } from './commit-run.ts';
import { type Parsed, parseContext } from './parse-context.ts';
import type { RunTimeout } from './run-timeout.ts';
import { SingleRun } from './single-run.ts';

type Outcome = Verdict | undefined;

const none: ReadonlyMap<string, string> = new Map();

/** The parts that handlers are run with. */
export interface HandlerParts {
  readonly registry: Registry;
  readonly telemetry: Telemetry;
  readonly worker: Committer;
  readonly reports: ProgressReports;
  /** For how long the runner waits for a handler that ignores the timeout, in ms. */
  readonly leaseMs: number;
}

/** Calls handlers and turns their results and errors into verdicts. */
export class HandlerRunner {
  readonly #registry: Registry;
  readonly #telemetry: Telemetry;
  readonly #worker: Committer;
  readonly #reports: ProgressReports;
  readonly #leaseMs: number;

  constructor({ registry, telemetry, worker, reports, leaseMs }: HandlerParts) {
    this.#registry = registry;
    this.#telemetry = telemetry;
    this.#worker = worker;
    this.#reports = reports;
    this.#leaseMs = leaseMs;
  }

  /** Runs rows of one type. Never throws. */
  run(rows: readonly RunningRow[]): Verdicts | Promise<Verdicts> {
    const first = rows[0];
    const type = first && this.#registry.types[first.row.kind];
    const registered = first && this.#registry.handlers.get(first.row.kind);
    if (!first || !type || !registered) return new Map(rows.map(({ row }) => [row.id, { outcome: 'release' }]));
    const { many } = registered;
    if (many) {
      const commit = (live: Commit['rows'], effects: Commit['effects'], results: Commit['results']): Promise<void> =>
        commitRun(this.#registry, this.#worker, { rows: live, effects, followUps: [], type, results });
      const settleLate = (timeout: RunTimeout): Promise<void> => this.#settleLate(first, type, timeout);
      const [telemetry, reports] = [this.#telemetry, this.#reports];
      return runBatch({ registry: this.#registry, telemetry, reports, type, handler: many, commit, settleLate }, rows);
    }
    const verdict = this.#runOne(first, type, registered.one);
    return verdict instanceof Promise ? verdict.then((settled) => new Map([[first.row.id, settled]])) : new Map([[first.row.id, verdict]]);
  }

  /** Makes no promise, timer or signal for a handler that returns without waiting. */
  #runOne(running: RunningRow, type: BizType<unknown, unknown>, handler: Registered['one']): Outcome | Promise<Outcome> {
    const parsed = parseContext(this.#registry, running.row, type);
    if (parsed instanceof Promise) return parsed.then((settled) => this.#runParsed(running, type, handler, settled));
    return this.#runParsed(running, type, handler, parsed);
  }

  #runParsed(running: RunningRow, type: BizType<unknown, unknown>, handler: Registered['one'], parsed: Parsed): Outcome | Promise<Outcome> {
    if ('verdict' in parsed) return parsed.verdict;
    const { row } = running;
    const run = new SingleRun(running, {
      registry: this.#registry,
      type,
      reports: this.#reports,
      commit: (effects, followUps, result) =>
        commitRun(this.#registry, this.#worker, {
          rows: [row],
          effects,
          followUps,
          type,
          results: result === undefined ? none : new Map([[row.id, result]]),
        }),
      settleLate: (timeout) => this.#settleLate(running, type, timeout),
    });
    let result: unknown;
    try {
      result = this.#telemetry.recording
        ? this.#telemetry.span(`compensate-biz ${row.kind}`, [row.payload.traceparent], async () => handler?.(parsed.context, run))
        : handler?.(parsed.context, run);
    } catch (error) {
      return run.end({ error });
    }
    if (typeof (result as PromiseLike<unknown> | undefined)?.then !== 'function') return run.end({ value: result });
    return run.finish(Promise.resolve(result));
  }

  /**
   * Waits until a handler that has run longer than the timeout has ended, so that a serial row keeps its turn and a capped row its slot: otherwise
   * the next row would run beside it. It waits as long as a lease lasts, and no longer, as if the worker of that handler had died.
   */
  async #settleLate({ row }: RunningRow, type: BizType<unknown, unknown>, timeout: RunTimeout): Promise<void> {
    if (!type.serial && type.globalConcurrency === undefined) return;
    if (await timeout.quiet(this.#leaseMs)) return;
    this.#registry.logger.warn(
      { id: row.id, type: row.kind, bizId: row.payload.bizId, waitedMs: this.#leaseMs },
      'a handler still runs though its signal has aborted; the next row may now run beside it. Let the handler end when run.signal aborts',
    );
  }
}
