import { LeaseLostError } from '../../errors/errors.ts';
import { lifecycle } from '../../loop/lifecycle.ts';
import { defineLoop, type Loop } from '../../loop/loop.ts';
import type { Service } from '../../loop/service.ts';
import { checkpoint } from '../../observe/checkpoint.ts';
import type { Logger } from '../../observe/logger.ts';
import type { Telemetry } from '../../observe/telemetry.ts';
import { wait } from '../../time/wait.ts';
import type { SettleHook, Settlement } from '../row/settle-rows.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { Verdict } from '../row/verdict.ts';
import type { WorkTable } from '../row/work-table.ts';
import { Claims } from './claims.ts';
import { countOutcomes } from './count-outcomes.ts';
import { Floors } from './floors.ts';
import type { HeldRow, RunningRow } from './held-row.ts';
import type { KindPolicy } from './kind-policy.ts';
import { KindState } from './kind-state.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { LoneRuns } from './lone-runs.ts';
import { OpenRuns } from './open-runs.ts';
import { ReadyLooks } from './ready-looks.ts';
import { RowClaimer } from './row-claimer.ts';
import { Settler } from './settler.ts';

/** A verdict for each row, by id; `undefined` for a row that the run has settled itself. */
export type Verdicts = ReadonlyMap<string, Verdict | undefined>;

/** Options of {@link WorkRunner}. */
export interface WorkRunnerOptions {
  readonly table: WorkTable;
  readonly owner: string;
  readonly leaseMs: number;
  /** The policy of each kind of row that this runner runs. */
  readonly kinds: () => ReadonlyMap<string, KindPolicy>;
  /**
   * Runs rows and returns a verdict for each, by id; `undefined` for a row that the run has settled itself. Must not throw. It may return
   * the verdicts without a promise: no-op handlers gain a third by it.
   */
  readonly run: (rows: readonly RunningRow[]) => Verdicts | Promise<Verdicts>;
  /** Returns a hook whose statements commit with the settled batch, or `undefined` if there are none. */
  readonly settleHook?: (settlements: readonly Settlement[]) => SettleHook | undefined;
  /**
   * Called after the commit, for each settlement, also for those of {@link WorkRunner.committed}. `accepted` is false if this worker no
   * longer held the row.
   */
  readonly onSettled?: (settlement: Settlement, accepted: boolean) => void;
  /** Called when a row was settled that this worker no longer held: its verdict was not written. */
  readonly onLeaseLost?: (row: ClaimedRow) => void;
  /** How long `stop` waits for running handlers before it aborts their signals, in ms. They have 2 s more to end. */
  readonly stopMs: number;
  /** Longest pause between two polls when nothing wakes the worker, in ms. */
  readonly maxPollMs: () => number;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

/** How long `stop` waits for a handler after its signal was aborted, in ms. Then it leaves the handler behind. */
export const stopGraceMs = 2_000;

/**
 * Claims, runs and settles rows of one table. Three things overlap: the next claim, the handlers, and the settling of finished rows.
 *
 * ```
 * ReadyLooks --groups--> RowClaimer --held rows--> KindState (queue) --WorkRunner--> handler --verdict--> Settler
 * (what is READY)        (how many to claim)       LeaseKeeper renews until then     LoneRuns: a row on its last start, by itself
 * ```
 *
 * A "suspect" is a row that has lost a start: it may have killed its process. Suspects are claimed together, and only as many as can start
 * soon. At the last start before a row is given up, it runs alone. So a row that kills its process does not use up the starts of the rows
 * claimed with it, and the rows that one kill -9 left behind need not run one by one.
 */
export class WorkRunner implements Service {
  readonly #options: WorkRunnerOptions;
  readonly #kinds = new Map<string, KindState>();
  readonly #floors = new Floors();
  readonly #looks: ReadyLooks;
  readonly #leases: LeaseKeeper;
  readonly #claims: Claims;
  readonly #claimer: RowClaimer;
  readonly #loneRuns: LoneRuns;
  readonly #settler: Settler;
  readonly #open: OpenRuns;
  readonly #poll: Loop<number>;
  readonly #lifecycle: Service;
  #stopping = false;
  #stopped: (() => void)[] = [];

  constructor(options: WorkRunnerOptions) {
    this.#options = options;
    this.#looks = new ReadyLooks({ table: options.table, floors: this.#floors, onFound: () => this.wake(), logger: options.logger });
    this.#open = new OpenRuns(options.logger, options.leaseMs);
    this.#leases = new LeaseKeeper({
      table: options.table,
      owner: options.owner,
      leaseMs: options.leaseMs,
      logger: options.logger,
      onExpired: (row) => options.telemetry.leaseLost.add(1, { kind: row.kind }),
    });
    const { table, owner, leaseMs, kinds, logger, telemetry } = options;
    this.#claims = new Claims({
      stopping: () => this.#stopping,
      table,
      owner,
      leaseMs,
      leases: this.#leases,
      logger,
      telemetry,
      onEnded: () => this.#notifyStopped(),
    });
    const shared = { claims: this.#claims, kinds, stopping: () => this.#stopping };
    this.#claimer = new RowClaimer({
      ...shared,
      floors: this.#floors,
      held: () => this.#leases.size,
      enqueue: (state, rows) => this.#enqueue(state, rows),
      wake: () => this.wake(),
    });
    this.#loneRuns = new LoneRuns({
      ...shared,
      leaseMs,
      stateOf: (kind) => this.#state(kind),
      release: ({ row }) => this.#release(row),
      run: (state, policy, held) => this.#runRows(state, policy, [held]),
    });
    this.#settler = new Settler({
      logger: options.logger,
      write: async (batch) => {
        await checkpoint('work:before-settle');
        const accepted = await options.table.settle(batch, options.settleHook?.(batch));
        await checkpoint('work:after-settle');
        countOutcomes(options.telemetry, batch, accepted);
        return accepted;
      },
      onSettled: (settlement, accepted) => this.#settled(settlement, accepted),
      // A stop waits for a database that is away, too, but not for longer than it waits for handlers; a deadlock must cost no verdict.
      patienceMs: () => (this.#stopping ? Math.min(options.leaseMs, Math.max(options.stopMs, 5_000)) : options.leaseMs),
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
    this.#poll = defineLoop({
      name: 'work',
      logger: options.logger,
      runOnce: () => this.#pollOnce(),
      pauseMs: (found) => (found !== undefined && found > 0 ? 100 : undefined),
      minMs: 50,
      get maxMs() {
        return options.maxPollMs();
      },
    });
  }

  /** The number of rows that this worker holds. */
  get inFlight(): number {
    return this.#leases.size;
  }

  /** Polls at once, since there may be work. */
  wake(): void {
    this.#poll.wake();
  }

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

  /**
   * Records rows that a run has settled itself, in a transaction that has committed: they are counted and reported to `onSettled`, like those that
   * the runner settles.
   */
  committed(settlements: readonly Settlement[]): void {
    countOutcomes(this.#options.telemetry, settlements, new Set(settlements.map(({ row }) => row.id)));
    for (const settlement of settlements) this.#options.onSettled?.(settlement, true);
  }

  /** Claims a new row by its id, so that it need not wait for a poll: see `RowClaimer.hint`. */
  hint(kind: string, id: string): void {
    if (this.#options.kinds().has(kind)) this.#claimer.hint(this.#state(kind), id);
  }

  /** Aborts the signal of a row that this worker runs (after its cancellation was committed). */
  abort(id: string, reason: Error): void {
    this.#leases.abort(id, reason);
  }

  async #start(): Promise<void> {
    this.#stopping = false;
    this.#leases.start();
    await this.#poll.start();
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    // A look may take long, and nothing of the stop must wait for it: neither the rows that wait nor the handlers.
    const polled = this.#poll.stop();
    for (const state of this.#kinds.values()) {
      for (const held of state.drain()) this.#release(held.row);
    }
    const quiet = new AbortController();
    void this.#interrupt(quiet.signal).catch(() => undefined);
    await this.#settler.drain();
    while (this.#claims.open > 0 || this.#open.size > 0) await new Promise<void>((resolve) => this.#stopped.push(resolve));
    await this.#settler.drain();
    quiet.abort();
    this.#leases.stop();
    await polled;
    await this.#looks.quiet();
  }

  /** Aborts the runs that take longer than a stop waits, and leaves those behind that do not end then. Rejects once the worker is `quiet`. */
  async #interrupt(quiet: AbortSignal): Promise<void> {
    // A plain timer fires at once if it is set for longer than 24 days.
    await wait(this.#options.stopMs, quiet);
    this.#leases.interruptAll(new LeaseLostError('The worker is stopping, and this handler did not end in time. Its row will run again.'));
    await wait(stopGraceMs, quiet);
    for (const { row } of this.#open.leave()) this.#forget(row);
    this.#notifyStopped();
  }

  #release(row: ClaimedRow): void {
    this.#settler.push({ row, verdict: { outcome: 'release' }, keep: true });
  }

  /** Reads which kinds and groups have READY rows, and claims where there is room. Returns the number of kinds with work. */
  async #pollOnce(): Promise<number> {
    if (this.#stopping) return 0;
    const policies = this.#options.kinds();
    if (policies.size === 0) return 0;
    const groups = new Map<string, string[]>();
    const suspects: string[] = [];
    const lastStarts: string[] = [];
    const lags = new Map<string, number>();
    const { groups: found, complete } = await this.#looks.next();
    const [clock] = found;
    if (clock) this.#floors.clock(clock.nowMs);
    for (const { kind, group, lost, rank, lagMs } of found) {
      const policy = policies.get(kind);
      if (!policy) continue;
      if (lost.most === 0) this.#floors.found(kind, group, rank);
      lags.set(kind, Math.max(lags.get(kind) ?? 0, lagMs));
      if (lost.most === 0) groups.set(kind, [...(groups.get(kind) ?? []), group]);
      if (lost.least > 0 && lost.least <= policy.maxLost - 2) suspects.push(kind);
      if (lost.most > 0 && lost.most >= policy.maxLost - 1) lastStarts.push(kind);
    }
    for (const [kind, names] of groups) this.#state(kind).found(names, complete);
    if (complete) for (const [kind, state] of this.#kinds) if (!groups.has(kind)) state.groups = [];
    const { telemetry } = this.#options;
    for (const kind of policies.keys()) telemetry.dueLag.record(lags.get(kind) ?? 0, { kind });
    for (const [kind, state] of this.#kinds) telemetry.inFlight.record(state.waiting + state.running, { kind });
    for (const kind of groups.keys()) void this.#claimer.fill(this.#state(kind));
    for (const kind of suspects) {
      this.#state(kind).suspects = true;
      void this.#claimer.fillSuspects(this.#state(kind));
    }
    void this.#loneRuns.run(lastStarts);
    return groups.size + suspects.length + lastStarts.length;
  }

  #state(kind: string): KindState {
    let state = this.#kinds.get(kind);
    if (!state) this.#kinds.set(kind, (state = new KindState(kind)));
    return state;
  }

  #enqueue(state: KindState, rows: readonly HeldRow[]): void {
    for (const held of rows) {
      state.enter(held.row.group);
      if (this.#stopping) this.#release(held.row);
      else state.push(held);
    }
    if (rows.length > 0) this.#pump(state);
  }

  /** Starts handlers while there is room. Handlers that end at once run in this loop, not in deeper and deeper calls. */
  #pump(state: KindState): void {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy || state.pumping) return;
    state.pumping = true;
    try {
      while (!this.#stopping && state.waiting > 0 && state.running < policy.concurrency) {
        const taken = state.take(policy.batch);
        const rows = taken.some((held) => held.lost) ? taken.filter((held) => !held.lost) : taken;
        // Rows that were lost or cancelled while they waited are forgotten. They would otherwise count as held for ever.
        for (const held of taken) if (held.lost) this.#forget(held.row);
        if (rows.length > 0) void this.#runRows(state, policy, rows);
      }
    } finally {
      state.pumping = false;
    }
    if (!this.#stopping) this.#claimer.refill(state);
  }

  #runRows(state: KindState, policy: KindPolicy, rows: readonly HeldRow[]): Promise<void> | undefined {
    state.running += 1;
    const paused = checkpoint('work:before-run');
    if (paused) return this.#runSlowly(paused, state, policy, rows);
    let verdicts: Verdicts | Promise<Verdicts>;
    try {
      verdicts = this.#options.run(rows);
    } catch (error) {
      verdicts = this.#noVerdicts(rows, error);
    }
    if (verdicts instanceof Promise) {
      this.#open.begun(rows, state);
      return verdicts.then(
        (done) => this.#ended(state, policy, rows, done),
        (error) => this.#ended(state, policy, rows, this.#noVerdicts(rows, error)),
      );
    }
    this.#finished(state, policy, rows, verdicts);
    return undefined;
  }

  /** After a run that threw, which is a fault of ours: the rows are let go, and rescued when their leases have expired. */
  #noVerdicts(rows: readonly HeldRow[], error: unknown): Verdicts {
    this.#options.logger.error(
      { err: error, ids: rows.map(({ row }) => row.id) },
      'a run ended with an error of its own; its rows will be rescued and run again',
    );
    return new Map();
  }

  /** As `#runRows`, after the checkpoint's hook. */
  async #runSlowly(paused: Promise<void>, state: KindState, policy: KindPolicy, rows: readonly HeldRow[]): Promise<void> {
    this.#open.begun(rows, state);
    await paused;
    const verdicts = await (async () => this.#options.run(rows))().catch((error) => this.#noVerdicts(rows, error));
    this.#ended(state, policy, rows, verdicts);
  }

  /** As `#finished`, for a run that a stop may have left behind. */
  #ended(state: KindState, policy: KindPolicy, rows: readonly HeldRow[], verdicts: Verdicts): void {
    if (this.#open.ended(rows)) this.#finished(state, policy, rows, verdicts);
  }

  #finished(state: KindState, policy: KindPolicy, rows: readonly HeldRow[], verdicts: Verdicts): void {
    void checkpoint('work:after-run');
    state.running -= 1;
    for (const held of rows) {
      const verdict = verdicts.get(held.row.id);
      if (verdict === undefined) this.#forget(held.row);
      else this.#settler.push({ row: held.row, verdict, keep: policy.keep(held.row) });
    }
    state.finished(rows.length);
    this.#pump(state);
    this.#notifyStopped();
  }

  #settled(settlement: Settlement, accepted: boolean): void {
    this.#forget(settlement.row);
    if (!accepted) this.#options.onLeaseLost?.(settlement.row);
    this.#options.onSettled?.(settlement, accepted);
  }

  #forget(row: ClaimedRow): void {
    this.#leases.remove(row);
    this.#state(row.kind).leave(row.group);
    this.#notifyStopped();
  }

  #notifyStopped(): void {
    if (!this.#stopping) return;
    const waiting = this.#stopped;
    this.#stopped = [];
    for (const resolve of waiting) resolve();
  }
}
