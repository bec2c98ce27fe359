import {
  checkpoint,
  countOf,
  createUpkeep,
  type Duration,
  defineLoop,
  durationMs,
  InvalidArgumentError,
  type KindPolicy,
  LeaseLostError,
  type Loop,
  lifecycle,
  ProgressReports,
  type Service,
  type Settlement,
  Telemetry,
  uuidv7,
  WorkRunner,
} from '@holdfast/core';
import type { Often } from '../biz-type.ts';
import { type CancelPass, cancelChildren } from '../operate/cancel.ts';
import type { Registry } from '../registry.ts';
import { HandlerRunner } from '../run/handler-runner.ts';
import { pausedTypes } from '../table/paused-types.ts';
import { type Hints, parseHint } from '../wake/hints.ts';
import { BreakerReports } from './breaker-reports.ts';
import { reportForeignRows } from './foreign-rows.ts';
import { kindPolicy } from './kind-policy.ts';
import { completeOnce, repairOnce, rescueOnce } from './sweep.ts';
import { sweepLoops } from './sweep-loops.ts';

/** Options of a worker. */
export interface WorkerOptions {
  /**
   * How long a row stays with this worker without a renewal; the worker renews the lease while a handler runs. When the worker dies, others
   * take the row after this time. Default 30 s. It does not limit how long a handler may run: see the type's `timeout`.
   */
  readonly lease?: Duration;
  /** How often the worker sweeps for lost rows, turns and fan-outs: a period or a cron expression. Default 3 minutes. */
  readonly sweep?: Often;
  /**
   * How long a row that code without leases has set PROCESSING may go without an update before a worker takes it back and runs it again.
   * Default 10 minutes. Set it above the longest run of such code, or a row runs twice at a time.
   */
  readonly adoptIdleFor?: Duration;
  /**
   * How long `stop` waits for running handlers before it aborts their signals. A handler that then ends with an error has not failed: its row
   * is given back, and costs no attempt. Two seconds later, `stop` resolves without the handlers that still run: it logs their rows at `warn`
   * and renews their leases no more, so another worker runs them again when their leases have expired. Their verdicts are not written; a
   * `run.commit` still counts while no other worker has the row. Default 30 s.
   */
  readonly stopTimeout?: Duration;
  /** Brings the ids of new rows from other processes. Default: the `hints` of `createCompensateBiz`. */
  readonly hints?: Hints;
  /** The types to run. Default: all types with a handler. */
  readonly types?: readonly string[];
}

/** Runs the rows of the types that have handlers. */
export class BizWorker implements Service {
  /** The name of this worker in the `owner` column. */
  readonly id: string = uuidv7();
  readonly #registry: Registry;
  readonly #runner: WorkRunner;
  readonly #loops: readonly Loop<unknown>[];
  readonly #promote: Loop<number>;
  readonly #cancel: Loop<CancelPass>;
  readonly #lifecycle: Service;
  readonly #reports: BreakerReports;
  readonly #hints: Hints | undefined;
  /** Parents of fan-outs of which a child has ended since `#completeParents` ran. */
  readonly #touchedParents = new Set<string>();
  #parentsTimer: NodeJS.Timeout | undefined;
  #paused: ReadonlySet<string> = new Set();
  #unlisten: (() => void)[] = [];

  constructor(registry: Registry, options: WorkerOptions) {
    this.#registry = registry;
    this.#reports = new BreakerReports(registry);
    this.#hints = options.hints ?? registry.hints;
    const { types, handlers, logger } = registry;
    const leaseMs = Math.max(100, durationMs(options.lease ?? '30s', 'lease'));
    const telemetry = new Telemetry('@holdfast/compensate-biz');
    const policies = new Map<string, KindPolicy>();
    let gated = false;
    for (const type of options.types ?? handlers.keys()) {
      const handler = handlers.get(type);
      const definition = types[type];
      if (!handler || !definition)
        throw new InvalidArgumentError(`${type} has no handler; call biz.handle('${type}', …) before the worker is made.`);
      policies.set(
        type,
        kindPolicy(registry, type, definition, handler, () => this.#paused),
      );
      gated ||= definition.serial || definition.globalConcurrency !== undefined;
    }
    const maxPollMs = (): number => (registry.wakers.reliable ? 5_000 : 500);
    const onCounted = (parentId: string): void => this.#completeSoon(parentId);
    const runner = new HandlerRunner({
      registry,
      telemetry,
      worker: { id: this.id, onCounted, onCommitted: (settlements) => this.#runner.committed(settlements) },
      reports: new ProgressReports(registry.table, logger),
      leaseMs,
    });
    this.#runner = new WorkRunner({
      table: registry.table,
      owner: this.id,
      leaseMs,
      kinds: () => policies,
      run: (rows) => runner.run(rows),
      // `#settled` completes the parents, after the commit. Here, before the commit, other connections do not see the counts yet.
      settleHook: (settlements) => registry.effects.hook(settlements, this.id, () => undefined),
      onSettled: (settlement, accepted) => this.#settled(settlement, accepted),
      onLeaseLost: (row) => registry.events.emit('task:lease-lost', { id: row.id, type: row.kind }),
      stopMs: durationMs(options.stopTimeout ?? '30s', 'stopTimeout'),
      maxPollMs,
      logger,
      telemetry,
    });
    const adoptIdleMs = durationMs(options.adoptIdleFor ?? '10m', 'adoptIdleFor');
    const { promote, others } = createUpkeep({
      table: registry.table,
      logger,
      leaseMs,
      minPollMs: 5,
      maxPollMs,
      onPromoted: async (count) => {
        await checkpoint('promote:after');
        if (count === 0) return;
        this.#runner.wake();
        registry.wakers.wakeElsewhere();
      },
      rescue: async (backMs, signal) => {
        const { rescued, dead } = await rescueOnce(registry, adoptIdleMs, backMs, signal);
        return rescued + dead;
      },
      repair: gated ? (signal) => repairOnce(registry, 'part', registry.types, signal) : undefined,
    });
    this.#promote = promote;
    const paused = defineLoop({ name: 'paused', logger, runOnce: () => this.#readPaused(), pauseMs: () => 1_000 });
    this.#cancel = defineLoop({
      name: 'cancel fan-outs',
      logger,
      runOnce: ({ signal }) => cancelChildren(registry, signal),
      busy: ({ chunks }) => chunks > 0,
      pauseMs: () => 1_000,
    });
    this.#loops = [paused, promote, this.#cancel, ...others, ...sweepLoops(registry, options.sweep ?? '3m', adoptIdleMs)];
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** Number of rows that this worker holds at present. */
  get inFlight(): number {
    return this.#runner.inFlight;
  }

  /** Checks the tables and starts the loops. @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Stops claiming, waits for running handlers up to `stopTimeout` and two seconds, and settles their rows. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops the worker, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Aborts the runs of those rows that run here: this process has cancelled them. */
  cancelled(ids: readonly string[]): void {
    for (const id of ids)
      this.#runner.abort(id, new LeaseLostError(`Row ${id} was cancelled while it ran. Stop; nothing more of this run will be accepted.`));
    // One of them may be a fan-out, with more children than were cancelled at once.
    this.#cancel.wake();
  }

  async #start(): Promise<void> {
    await this.#registry.check();
    await reportForeignRows(this.#registry);
    await this.#readPaused();
    await this.#registry.caps.ensure(Object.keys(this.#registry.types));
    this.#unlisten = [this.#registry.wakers.listen((notes) => this.#woken(notes))];
    if (this.#hints)
      this.#unlisten.push(
        this.#hints.listen((hints) => {
          for (const { type, id } of hints) this.#runner.hint(type, id);
        }),
      );
    await this.#runner.start();
    for (const loop of this.#loops) await loop.start();
  }

  async #stop(): Promise<void> {
    for (const unlisten of this.#unlisten) unlisten();
    // At once: a sweep may take long, and handlers must get their signal in time.
    await Promise.all([this.#runner.stop(), ...this.#loops.map((loop) => loop.stop())]);
    clearTimeout(this.#parentsTimer);
    await this.#completeParents();
  }

  async #readPaused(): Promise<void> {
    this.#paused = await pausedTypes(this.#registry.database);
  }

  /** Takes the rows that the notes name; polls for all rows if a note names none. */
  #woken(notes: readonly string[]): void {
    const hints = notes.map(parseHint);
    for (const hint of hints) if (hint) this.#runner.hint(hint.type, hint.id);
    if (hints.length > 0 && !hints.includes(undefined)) return;
    this.#runner.wake();
    this.#promote.wake();
  }

  #settled(settlement: Settlement, accepted: boolean): void {
    const { row, verdict } = settlement;
    const { children, effects, events, logger } = this.#registry;
    if (effects.admitsOthers(row)) this.#runner.wake();
    if (!accepted) return;
    const parentId = children.parent(row);
    if (parentId !== null && countOf(verdict.outcome) !== undefined) this.#completeSoon(parentId);
    this.#reports.add(settlement);
    if (verdict.outcome === 'done') {
      if (events.has('task:succeeded')) events.emit('task:succeeded', { id: row.id, type: row.kind });
    } else if (verdict.outcome === 'retry') {
      this.#promote.wake();
      events.emit('task:retried', { id: row.id, type: row.kind, afterMs: verdict.afterMs, error: verdict.error });
    } else if (verdict.outcome === 'dead') {
      const { reason, error } = verdict;
      logger.warn({ id: row.id, type: row.kind, reason, error }, 'a row is FAILED; redrive it once the cause is fixed');
      events.emit('task:dead', { id: row.id, type: row.kind, reason, error });
    } else if (verdict.outcome === 'snooze') this.#promote.wake();
  }

  /** Completes the parent within 50 ms, together with others, if all its children have ended. */
  #completeSoon(parentId: string): void {
    this.#touchedParents.add(parentId);
    this.#parentsTimer ??= setTimeout(() => {
      this.#parentsTimer = undefined;
      void this.#completeParents();
    }, 50);
  }

  async #completeParents(): Promise<void> {
    const ids = [...this.#touchedParents];
    this.#touchedParents.clear();
    try {
      await completeOnce(this.#registry, ids);
    } catch (error) {
      this.#registry.logger.debug({ err: error }, 'completing fan-outs failed; the sweep will complete them');
    }
  }
}
