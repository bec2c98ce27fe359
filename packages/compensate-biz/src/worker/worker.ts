import {
  Breaker,
  type ClaimedRow,
  checkpoint,
  type Duration,
  defineLoop,
  durationMs,
  InvalidArgumentError,
  type KindPolicy,
  LeaseLostError,
  type Loop,
  lifecycle,
  localWaker,
  type Service,
  type SettleHook,
  type Settlement,
  Telemetry,
  uuidv7,
  WorkRunner,
} from '@holdfast/core';
import { Cron } from 'croner';
import { type CompensateBiz, channel } from '../biz.ts';
import type { BizTypes, Often } from '../biz-type.ts';
import { ensureSlots, freeSlots, globalCap, repairSlots } from '../global-cap.ts';
import { HandlerRunner } from '../run/handler-runner.ts';
import { completeParents } from '../submit/fan-out.ts';
import { countChildren, handOnGates, outcomes } from '../table/biz-effects.ts';
import { type Hints, parseHint } from '../wake/hints.ts';
import { RateLimit } from './rate-limit.ts';
import { repairGates, rescueOnce, sweepOnce } from './sweep.ts';

/** Which types a worker runs, how many at a time, and how long its lease is. */
export interface WorkerOptions {
  /** How long a row stays this worker's without a renewal. Default 30 s. It says nothing about how long a handler may run. */
  readonly lease?: Duration;
  /** How often the sweep runs, or a cron expression. Default 3 minutes. */
  readonly sweep?: Often;
  /** Rows set PROCESSING by code that knows no lease are taken back when untouched for this long. Default 10 minutes. */
  readonly adoptAfter?: Duration;
  /** How long `stop` waits for running handlers before their signals abort. Default 30 s. */
  readonly stopAfter?: Duration;
  /** Brings ids of new rows from elsewhere. Default: those of `createCompensateBiz`. */
  readonly hints?: Hints;
  /** Only these types. Default: all with a handler. */
  readonly types?: readonly string[];
}

/** Runs the rows of the types that have handlers. */
export class BizWorker implements Service {
  /** Names this worker in the `owner` column. */
  readonly id: string = uuidv7();
  readonly #biz: CompensateBiz<BizTypes>;
  readonly #runner: WorkRunner;
  readonly #loops: readonly Loop<unknown>[];
  readonly #promote: Loop<number>;
  readonly #lifecycle: Service;
  readonly #policies = new Map<string, KindPolicy>();
  readonly #parents = new Set<string>();
  readonly #reports = new Map<string, { ok: number; failed: number }>();
  #paused = new Set<string>();
  #parentsTimer: NodeJS.Timeout | undefined;
  readonly #hints: Hints | undefined;
  #unlisten: (() => void)[] = [];
  #nextDue = 0;

  constructor(biz: CompensateBiz<BizTypes>, options: WorkerOptions) {
    this.#biz = biz;
    const leaseMs = Math.max(100, durationMs(options.lease ?? '30s', 'lease'));
    const adoptAfterMs = durationMs(options.adoptAfter ?? '10m', 'adoptAfter');
    const { logger } = biz;
    const telemetry = new Telemetry('@holdfast/compensate-biz');
    for (const type of options.types ?? biz.handlers.keys()) {
      const registered = biz.handlers.get(type);
      const definition = biz.types[type];
      if (!registered || !definition)
        throw new InvalidArgumentError(`${type} has no handler; call biz.handle('${type}', …) before the worker is made.`);
      const rate = definition.rate && new RateLimit(definition.rate.limit, definition.rate.perMs);
      const breaker = definition.breaker && new Breaker(biz.database, definition.breaker);
      this.#policies.set(type, {
        concurrency: definition.concurrency,
        batch: registered.size,
        keep: definition.keep,
        groupConcurrency: definition.tenantConcurrency,
        maxLost: definition.maxLost,
        cap: definition.globalConcurrency === undefined ? undefined : globalCap(biz.database, type),
        admit: async (wanted) => {
          if (this.#paused.has(type)) return 0;
          if (breaker) {
            const admitted = await breaker.admit('compensate-biz', type);
            if (admitted !== 'all') return admitted === 'probe' ? 1 : 0;
          }
          return rate ? rate.take(wanted) : wanted;
        },
      });
    }
    const handlers = new HandlerRunner(biz, telemetry, (parentId) => this.#checkParent(parentId));
    this.#runner = new WorkRunner({
      table: biz.table,
      owner: this.id,
      leaseMs,
      kinds: () => this.#policies,
      run: (rows) => handlers.run(rows, this.id),
      settleHook: (settlements) => this.#hook(settlements),
      onSettled: (settlement, accepted) => this.#settled(settlement, accepted),
      onLeaseLost: (row) => biz.emit('task:lease-lost', { id: row.id, type: row.kind }),
      stopMs: durationMs(options.stopAfter ?? '30s', 'stopAfter'),
      maxPollMs: () => (biz.crossProcessWaker?.reliable ? 5_000 : 500),
      logger,
      telemetry,
    });
    this.#promote = defineLoop({
      name: 'promote',
      logger,
      runOnce: async () => {
        const promoted = await biz.table.promote();
        await checkpoint('promote:after');
        if (promoted > 0) this.#wakeAll();
        this.#nextDue = promoted === 1000 ? 0 : ((await biz.table.nextDueMs()) ?? 5_000);
        return promoted;
      },
      busy: (promoted) => promoted === 1000,
      pauseMs: () => Math.max(5, Math.min(this.#nextDue, biz.crossProcessWaker?.reliable ? 5_000 : 500)),
    });
    const rescue = defineLoop({
      name: 'rescue',
      logger,
      runOnce: () => rescueOnce(biz, adoptAfterMs),
      pauseMs: () => Math.min(2_000, leaseMs),
    });
    const gates = defineLoop({
      name: 'gates',
      logger,
      runOnce: async () => (await repairGates(biz)) + (await repairSlots(biz.database, biz.types)),
      pauseMs: () => 2_000,
    });
    for (const often of [options.sweep ?? '3m', ...Object.values(biz.types).flatMap((definition) => definition.sweep ?? [])])
      nextSweepMs(often);
    const sweep = (name: string, often: Often, of: () => BizTypes): Loop<unknown> =>
      defineLoop({ name, logger, runOnce: () => sweepOnce(biz, adoptAfterMs, of()), pauseMs: () => nextSweepMs(often) });
    const own = Object.entries(biz.types).filter(([, definition]) => definition.sweep !== undefined);
    const others = Object.fromEntries(Object.entries(biz.types).filter(([, definition]) => definition.sweep === undefined));
    const sweeps = [
      sweep('sweep', options.sweep ?? '3m', () => others),
      ...own.map(([type, definition]) => sweep(`sweep ${type}`, definition.sweep ?? '3m', () => ({ [type]: definition }))),
    ];
    const paused = defineLoop({
      name: 'paused',
      logger,
      runOnce: async () => {
        this.#paused = await biz.inspect().paused();
      },
      pauseMs: () => 1_000,
    });
    const gated = [...this.#policies.keys()].some((type) => biz.types[type]?.serial || biz.types[type]?.globalConcurrency !== undefined);
    this.#loops = [paused, this.#promote, rescue, ...(gated ? [gates] : []), ...sweeps];
    this.#hints = options.hints ?? biz.hints;
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** Rows held at present. */
  get inFlight(): number {
    return this.#runner.inFlight;
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** A row was cancelled by this process: its run here is told at once. */
  cancelled(id: string): void {
    this.#runner.abort(id, new LeaseLostError(`Row ${id} was cancelled while it ran. Stop; nothing more of this run will be accepted.`));
  }

  async #start(): Promise<void> {
    await this.#biz.check();
    this.#paused = await this.#biz.inspect().paused();
    await ensureSlots(this.#biz.database, this.#biz.types);
    const wake = (notes: readonly string[]): void => {
      const hints = notes.map(parseHint);
      for (const hint of hints) if (hint) this.#runner.hint(hint.type, hint.id);
      if (hints.length > 0 && !hints.includes(undefined)) return;
      this.#runner.wake();
      this.#promote.wake();
    };
    const local = localWaker(this.#biz.database.knex.client as object);
    this.#unlisten = [local.listen(channel, wake)];
    const cross = this.#biz.crossProcessWaker;
    if (cross) this.#unlisten.push(cross.listen(channel, wake));
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
    await Promise.all(this.#loops.map((loop) => loop.stop()));
    await this.#runner.stop();
    clearTimeout(this.#parentsTimer);
    await this.#completeParents();
  }

  #wakeAll(): void {
    this.#runner.wake();
    this.#biz.crossProcessWaker?.wake(channel);
  }

  /** What must happen in the transaction of a settle: turns are passed on, parents are told. */
  #hook(settlements: readonly Settlement[]): SettleHook | undefined {
    const { types } = this.#biz;
    const needed = settlements.some(
      ({ row }) => row.payload.gate !== null || row.payload.parentId !== null || types[row.kind]?.globalConcurrency !== undefined,
    );
    if (!needed) return undefined;
    return async (sql, settled) => {
      await handOnGates(this.#biz.database, this.#biz.table, sql, outcomes(settled));
      await freeSlots(
        this.#biz.database,
        types,
        sql,
        settled.map(({ row }) => row),
      );
      for (const parent of await countChildren(this.#biz.database, sql, this.id, outcomes(settled))) this.#checkParent(parent);
    };
  }

  #settled({ row, verdict }: Settlement, accepted: boolean): void {
    // A turn or a slot is free.
    if (row.payload.gate !== null || this.#biz.types[row.kind]?.globalConcurrency !== undefined) this.#runner.wake();
    if (!accepted) return;
    this.#report(
      row,
      verdict.outcome === 'done' || (verdict.outcome === 'dead' && verdict.reason === 'rejected'),
      verdict.outcome === 'retry' || verdict.outcome === 'dead',
    );
    if (verdict.outcome === 'done') {
      if (this.#biz.has('task:succeeded')) this.#biz.emit('task:succeeded', { id: row.id, type: row.kind });
    } else if (verdict.outcome === 'retry') {
      this.#promote.wake();
      this.#biz.emit('task:retried', { id: row.id, type: row.kind, afterMs: verdict.afterMs, error: verdict.error });
    } else if (verdict.outcome === 'dead') {
      this.#biz.logger.warn(
        { id: row.id, type: row.kind, reason: verdict.reason, error: verdict.error },
        'a row is FAILED; redrive it once the cause is mended',
      );
      this.#biz.emit('task:dead', { id: row.id, type: row.kind, reason: verdict.reason, error: verdict.error });
    } else if (verdict.outcome === 'snooze') this.#promote.wake();
  }

  /** Breakers hear of outcomes in one update per type and turn, not one per row. */
  #report(row: ClaimedRow, ok: boolean, failed: boolean): void {
    const definition = this.#biz.types[row.kind];
    if (!definition?.breaker || (!ok && !failed)) return;
    const breaker = new Breaker(this.#biz.database, definition.breaker);
    const pending = this.#reports.get(row.kind);
    if (pending) {
      if (ok) pending.ok += 1;
      else pending.failed += 1;
      return;
    }
    this.#reports.set(row.kind, { ok: ok ? 1 : 0, failed: ok ? 0 : 1 });
    queueMicrotask(() => {
      const report = this.#reports.get(row.kind) ?? { ok: 0, failed: 0 };
      this.#reports.delete(row.kind);
      breaker.report('compensate-biz', row.kind, report).catch((error) => this.#biz.logger.debug({ err: error }, 'a breaker was not told'));
    });
  }

  #checkParent(parentId: string): void {
    this.#parents.add(parentId);
    this.#parentsTimer ??= setTimeout(() => {
      this.#parentsTimer = undefined;
      void this.#completeParents();
    }, 50);
  }

  async #completeParents(): Promise<void> {
    const ids = [...this.#parents];
    this.#parents.clear();
    try {
      for (const parentId of await completeParents({ database: this.#biz.database, wake: (rows) => this.#biz.wakeFor(rows) }, ids))
        this.#biz.emit('fan-out:completed', { parentId });
    } catch (error) {
      this.#biz.logger.debug({ err: error }, 'parents were not looked at; the sweep will');
    }
  }
}

function nextSweepMs(sweep: Often): number {
  if (typeof sweep === 'object') {
    try {
      return new Cron(sweep.cron).msToNext() ?? 180_000;
    } catch (error) {
      throw new InvalidArgumentError(
        `sweep.cron is ${JSON.stringify(sweep.cron)}, which is no cron expression: ${(error as Error).message}`,
      );
    }
  }
  return durationMs(sweep, 'sweep');
}
