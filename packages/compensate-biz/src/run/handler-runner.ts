import type { RunningRow, Telemetry, Verdict, Verdicts } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { runBatch } from './batch-run.ts';
import { type Commit, type Committer, commitRun } from './commit-run.ts';
import { type Parsed, parseContext } from './parse-context.ts';
import { SingleRun } from './single-run.ts';

type Outcome = Verdict | undefined;

/** Calls handlers and turns their results and errors into verdicts. */
export class HandlerRunner {
  readonly #registry: Registry;
  readonly #telemetry: Telemetry;
  readonly #worker: Committer;

  constructor(registry: Registry, telemetry: Telemetry, worker: Committer) {
    this.#registry = registry;
    this.#telemetry = telemetry;
    this.#worker = worker;
  }

  /** Runs rows of one type. Never throws. */
  run(rows: readonly RunningRow[]): Verdicts | Promise<Verdicts> {
    const first = rows[0];
    const type = first && this.#registry.types[first.row.kind];
    const registered = first && this.#registry.handlers.get(first.row.kind);
    if (!first || !type || !registered) return new Map(rows.map(({ row }) => [row.id, { outcome: 'release' }]));
    const { many } = registered;
    if (many) {
      const commit = (live: Commit['rows'], effects: Commit['effects']): Promise<void> =>
        commitRun(this.#registry, this.#worker, { rows: live, effects, followUps: [], type });
      return runBatch({ registry: this.#registry, telemetry: this.#telemetry, type, handler: many, commit }, rows);
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
    const run = new SingleRun(this.#registry, running, type, (effects, followUps) =>
      commitRun(this.#registry, this.#worker, { rows: [row], effects, followUps, type }),
    );
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
}
