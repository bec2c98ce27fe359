// This file is long because claiming, running and settling share the state of a kind, and the order of their statements decides both the
// speed and what a crash may lose. The parts that need less of that state have files of their own: `KindState`, `LeaseKeeper`,
// `ReadyLooks`, `Settler`.
import { LeaseLostError } from '../../errors/errors.ts';
import { lifecycle } from '../../loop/lifecycle.ts';
import type { Loop } from '../../loop/loop.ts';
import { defineLoop } from '../../loop/loop.ts';
import type { Service } from '../../loop/service.ts';
import { checkpoint } from '../../observe/checkpoint.ts';
import type { Logger } from '../../observe/logger.ts';
import type { Telemetry } from '../../observe/telemetry.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import { idle, wait } from '../../time/wait.ts';
import type { ClaimCap, ClaimQuery } from '../row/claim-rows.ts';
import type { SettleHook, Settlement } from '../row/settle-rows.ts';
import type { ClaimedRow } from '../row/table-sql.ts';
import type { Verdict } from '../row/verdict.ts';
import type { WorkTable } from '../row/work-table.ts';
import { Floors } from './floors.ts';
import { HeldRow, type RunningRow } from './held-row.ts';
import { KindState } from './kind-state.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { ReadyLooks } from './ready-looks.ts';
import { Settler } from './settler.ts';

/** Rules by which this worker runs rows of one kind. */
export interface KindPolicy {
  /** Runs at a time in this worker, at most. */
  readonly concurrency: number;
  /** Rows per run at most. 1 unless the handler takes batches. */
  readonly batch: number;
  /** Returns whether a row is kept as DONE; it is deleted otherwise. */
  readonly keep: (row: ClaimedRow) => boolean;
  /** Rows of one group (tenant) that this worker holds at a time, at most. */
  readonly groupConcurrency: number;
  /** Lost starts in a row after which a row is given up. At its last start the row runs alone. */
  readonly maxLost: number;
  /**
   * Returns how many of `wanted` rows may be claimed now: 0 when the kind is paused, rate-limited or behind an open breaker. A number above
   * 0 is a promise until `claimed` is called.
   */
  readonly admit: (wanted: number) => number | Promise<number>;
  /** Called when the claim has ended for which `admit` returned `admitted`: `rows` rows were claimed, and start now. */
  readonly claimed?: (admitted: number, rows: number) => void;
  /** False if rows are claimed only when they can start at once, since their starts are counted. Default true. */
  readonly claimAhead?: boolean;
  /** A limit that holds across processes. */
  readonly cap?: ClaimCap | undefined;
}

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
  /** How long `stop` waits for running handlers before it aborts their signals, in ms. */
  readonly stopMs: number;
  /** Longest pause between two polls when nothing wakes the worker, in ms. */
  readonly maxPollMs: () => number;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

const maxClaim = 1_000;
const maxAhead = 2_000;
const aheadMs = 50;
const maxUnsettled = 5_000;
/** True while a row runs alone in this process, in any of its workers: see `#runAlone`. */
let aloneRunning = false;

/**
 * Claims, runs and settles rows of one table. Three things overlap: the next claim, the handlers, and the settling of finished rows. The
 * rate at which rows finish decides how many are claimed ahead. Slow handlers get no queue, so that other workers find the waiting rows.
 * No-op handlers get a queue of up to 2,000 rows. (Postgres: 7% more rows a second than with 1,000, with claims of 1,000 instead of 500.
 * A queue of 4,000, claims of 2,000, a third claim or a third settle at a time gave nothing more.)
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
  readonly #settler: Settler;
  readonly #poll: Loop<number>;
  readonly #lifecycle: Service;
  #claimsOpen = 0;
  /** The kinds with rows that have one start left. */
  #lastStarts: string[] = [];
  readonly #hinted = new Map<string, readonly string[]>();
  #stopping = false;
  #stopped: (() => void)[] = [];

  constructor(options: WorkRunnerOptions) {
    this.#options = options;
    this.#looks = new ReadyLooks({ table: options.table, floors: this.#floors, onFound: () => this.wake(), logger: options.logger });
    this.#leases = new LeaseKeeper({
      table: options.table,
      owner: options.owner,
      leaseMs: options.leaseMs,
      logger: options.logger,
      onExpired: (row) => options.telemetry.leaseLost.add(1, { kind: row.kind }),
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
   * Takes note of rows that a run has settled itself, in a transaction that has committed. From here on they are treated as those that the
   * runner settles: counted, and told to `onSettled`.
   */
  committed(settlements: readonly Settlement[]): void {
    countOutcomes(this.#options.telemetry, settlements, new Set(settlements.map(({ row }) => row.id)));
    for (const settlement of settlements) this.#options.onSettled?.(settlement, true);
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
    const inTime = new AbortController();
    // A plain timer fires at once if it is set for longer than 24 days.
    void wait(this.#options.stopMs, inTime.signal).then(
      () =>
        this.#leases.interruptAll(
          new LeaseLostError('The worker is stopping, and this handler did not end in time. Its row will run again.'),
        ),
      () => undefined,
    );
    await this.#settler.drain();
    while (this.#claimsOpen > 0 || this.#busy() > 0) await new Promise<void>((resolve) => this.#stopped.push(resolve));
    await this.#settler.drain();
    inTime.abort();
    this.#leases.stop();
    await polled;
    await this.#looks.quiet();
  }

  #release(row: ClaimedRow): void {
    this.#settler.push({ row, verdict: { outcome: 'release' }, keep: true });
  }

  #busy(): number {
    let running = 0;
    for (const state of this.#kinds.values()) running += state.running;
    return running;
  }

  /** Reads which kinds and groups have READY rows, and claims where there is room. Returns the number of kinds with work. */
  async #pollOnce(): Promise<number> {
    if (this.#stopping) return 0;
    const policies = this.#options.kinds();
    if (policies.size === 0) return 0;
    const groups = new Map<string, string[]>();
    const suspects: string[] = [];
    this.#lastStarts = [];
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
      if (lost.most > 0 && lost.most >= policy.maxLost - 1) this.#lastStarts.push(kind);
    }
    for (const [kind, names] of groups) {
      const state = this.#state(kind);
      const known = new Set(state.groups);
      if (complete) state.groups = rotate(names, state.groups[0]);
      // A look that begins at floors does not find every group: the others stay until a claim finds them empty. New ones come first.
      else state.groups = [...names.filter((name) => !known.has(name)), ...state.groups];
    }
    if (complete) for (const [kind, state] of this.#kinds) if (!groups.has(kind)) state.groups = [];
    const { telemetry } = this.#options;
    for (const kind of policies.keys()) telemetry.dueLag.record(lags.get(kind) ?? 0, { kind });
    for (const [kind, state] of this.#kinds) telemetry.inFlight.record(state.waiting + state.running, { kind });
    for (const kind of groups.keys()) void this.#fill(this.#state(kind));
    for (const kind of suspects) {
      this.#state(kind).suspects = true;
      void this.#fillSuspects(this.#state(kind));
    }
    void this.#runAlone();
    return groups.size + suspects.length + this.#lastStarts.length;
  }

  #state(kind: string): KindState {
    let state = this.#kinds.get(kind);
    if (!state) this.#kinds.set(kind, (state = new KindState(kind)));
    return state;
  }

  /** Claims as many rows as there is room for, from each group with READY rows in turn. */
  async #fill(state: KindState): Promise<void> {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy) return;
    while (!this.#stopping && state.groups.length > 0 && state.claiming < 2 && this.#leases.size < maxUnsettled) {
      const ahead = policy.claimAhead === false ? 0 : Math.min(maxAhead, Math.trunc(state.rate * aheadMs));
      const capacity = policy.concurrency * policy.batch + ahead;
      const inUse = state.waiting + state.running * policy.batch;
      const free = capacity - inUse - state.claiming * maxClaim;
      // Claims only if half of the capacity is free or hardly a row waits: that makes fewer and larger claims.
      if (free < 1 || (inUse > 0 && free < capacity / 2 && state.waiting > policy.batch)) return;
      const group = state.groups[0] ?? '';
      const share = state.groups.length > 1 ? Math.max(1, Math.ceil(capacity / state.groups.length)) : free;
      const groupRoom = policy.groupConcurrency - (state.inGroup.get(group) ?? 0);
      if (groupRoom < 1) {
        state.groups = state.groups.slice(1);
        continue;
      }
      const limit = await this.#admit(state.kind, policy, Math.min(free, share, groupRoom, maxClaim));
      if (limit < 1) return;
      state.groups = [...state.groups.slice(1), group];
      state.claiming += 1;
      const from = this.#floors.get(state.kind, group);
      const got = await this.#claim(state, this.#query(state, policy, { limit, group, from }), (rows) => {
        const last = rows.at(-1);
        if (last) this.#floors.claimed(state.kind, group, from, last.row.rank);
        this.#enqueue(state, rows);
      });
      state.claiming -= 1;
      policy.claimed?.(limit, got ?? 0);
      if (got === undefined) {
        this.#floors.forget(state.kind, group);
        state.groups = [];
      } else if (got < limit) state.groups = state.groups.filter((name) => name !== group);
    }
  }

  /**
   * Claims a new row by its id, together with the rows that are hinted while an earlier claim runs. So a single row needs no poll. If the
   * claim returns no row, another worker has claimed it. Polls instead if groups must get fair shares, if many rows are hinted, or if the
   * kind is busy.
   */
  hint(kind: string, id: string): void {
    const policy = this.#options.kinds().get(kind);
    if (!policy || this.#stopping) return;
    const ids = this.#hinted.get(kind) ?? [];
    if (policy.groupConcurrency < Number.MAX_SAFE_INTEGER || ids.length >= 16) {
      this.wake();
      return;
    }
    this.#hinted.set(kind, [...ids, id]);
    const state = this.#state(kind);
    if (state.claimingHinted) return;
    state.claimingHinted = true;
    // On the next turn of the event loop, so that the claim covers all hints of this turn.
    setImmediate(() => void this.#claimHinted(state));
  }

  async #claimHinted(state: KindState): Promise<void> {
    for (let ids = this.#hinted.get(state.kind); ids !== undefined; ids = this.#hinted.get(state.kind)) {
      this.#hinted.delete(state.kind);
      await this.#claimIds(state, ids);
    }
    state.claimingHinted = false;
  }

  async #claimIds(state: KindState, ids: readonly string[]): Promise<void> {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy || this.#stopping) return;
    const free = policy.concurrency * policy.batch - state.waiting - state.running * policy.batch;
    // A row of a busy kind waits behind rows that are more urgent.
    if (state.groups.length > 0 || free < ids.length) {
      this.wake();
      return;
    }
    const limit = await this.#admit(state.kind, policy, ids.length);
    if (limit < 1) return;
    const { owner, leaseMs, table } = this.#options;
    const got = await this.#claim(
      state,
      () => table.claimIds(ids.slice(0, limit), { kind: state.kind, owner, leaseMs }, policy.cap),
      (rows) => this.#enqueue(state, rows),
    );
    policy.claimed?.(limit, got ?? 0);
    if (limit < ids.length) this.wake();
  }

  /** Returns how many rows may be claimed. Claims are not awaited, so an error of the policy (of a breaker, say) must not leave this method. */
  async #admit(kind: string, policy: KindPolicy, wanted: number): Promise<number> {
    try {
      const admitted = await policy.admit(wanted);
      if (!this.#stopping || admitted < 1) return admitted;
      // A stop that has found no claim under way does not wait for one that begins now.
      policy.claimed?.(admitted, 0);
      return 0;
    } catch (error) {
      this.#options.logger.debug({ err: error, kind }, 'the admission check failed; retrying');
      return 0;
    }
  }

  /** Claims suspects, only as many as can start soon: a suspect that waits when the process dies would lose a start without having run. */
  async #fillSuspects(state: KindState): Promise<void> {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy || state.claimingSuspects) return;
    state.claimingSuspects = true;
    while (!this.#stopping && state.suspects && this.#leases.size < maxUnsettled) {
      const places = policy.concurrency * policy.batch;
      const room = (policy.claimAhead === false ? places : Math.max(16, places)) - state.waiting - state.running * policy.batch;
      const limit = room < 1 ? 0 : await this.#admit(state.kind, policy, Math.min(room, maxClaim));
      if (limit < 1) break;
      const query = this.#query(state, policy, { limit, group: '', lost: { from: 1, to: policy.maxLost - 2 } });
      const got = await this.#claim(state, query, (rows) => this.#enqueue(state, rows));
      policy.claimed?.(limit, got ?? 0);
      if (got === undefined || got < limit) state.suspects = false;
    }
    state.claimingSuspects = false;
  }

  /**
   * Runs suspects that have one start left, each alone: one at a time per process, never in a batch. If the process dies again, only that
   * row is given up. A row that has run for the time of a lease no longer keeps the others waiting, or a handler without an end would keep
   * them waiting for ever. They are at risk then if it kills the process after all.
   */
  async #runAlone(): Promise<void> {
    if (aloneRunning || this.#lastStarts.length === 0) return;
    aloneRunning = true;
    try {
      for (const kind of this.#lastStarts) {
        const state = this.#state(kind);
        for (let alone: HeldRow | undefined; ; alone = undefined) {
          const policy = this.#options.kinds().get(kind);
          if (this.#stopping || !policy || state.alone >= policy.concurrency || (await this.#admit(kind, policy, 1)) < 1) break;
          const query = this.#query(state, policy, { limit: 1, group: '', lost: { from: policy.maxLost - 1, to: 2 ** 31 - 1 } });
          const got = await this.#claim(state, query, ([held]) => {
            if (!held) return;
            state.enter(held.row.group);
            if (this.#stopping) this.#release(held.row);
            else alone = held;
          });
          policy.claimed?.(1, got ?? 0);
          if (!alone) break;
          await this.#endedOrLong(state, this.#runRows(state, policy, [alone]));
        }
      }
    } finally {
      aloneRunning = false;
    }
  }

  /** Resolves when a row that runs alone has ended, or has run for the time of a lease. */
  async #endedOrLong(state: KindState, run: Promise<void> | undefined): Promise<void> {
    if (!run) return;
    const ended = new AbortController();
    state.alone += 1;
    const counted = run.finally(() => {
      state.alone -= 1;
      ended.abort();
    });
    await Promise.race([counted, idle(this.#options.leaseMs, ended.signal).catch(() => undefined)]);
  }

  /**
   * Claims rows and passes them to `deliver` while the claim still counts as open, so that `stop` can't miss them. Returns their number, or
   * `undefined` if the claim failed. Their deadline counts from before the claim was sent.
   */
  async #claim(
    { kind }: KindState,
    claim: () => Promise<readonly ClaimedRow[]>,
    deliver: (rows: readonly HeldRow[]) => void,
  ): Promise<number | undefined> {
    const { leaseMs, logger, telemetry } = this.#options;
    this.#claimsOpen += 1;
    try {
      const deadline = monotonicMs() + leaseMs;
      const rows = await claim();
      await checkpoint('work:after-claim');
      if (rows.length > 0) telemetry.claimed.add(rows.length, { kind });
      deliver(
        rows.map((row) => {
          const held = new HeldRow(row, deadline);
          this.#leases.add(held);
          return held;
        }),
      );
      return rows.length;
    } catch (error) {
      logger.debug({ err: error, kind }, 'a claim failed; retrying');
      return undefined;
    } finally {
      this.#claimsOpen -= 1;
      this.#notifyStopped();
    }
  }

  #query(
    { kind }: KindState,
    policy: KindPolicy,
    query: Pick<ClaimQuery, 'limit' | 'group' | 'lost' | 'from'>,
  ): () => Promise<readonly ClaimedRow[]> {
    const { owner, leaseMs, table } = this.#options;
    return () => table.claim({ kind, owner, leaseMs, ...query }, policy.cap);
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
    if (this.#stopping || state.waiting > policy.concurrency * policy.batch + maxAhead / 2) return;
    void this.#fill(state);
    if (state.suspects) void this.#fillSuspects(state);
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
    if (verdicts instanceof Promise)
      return verdicts.then(
        (done) => this.#finished(state, policy, rows, done),
        (error) => this.#finished(state, policy, rows, this.#noVerdicts(rows, error)),
      );
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
    await paused;
    const verdicts = await this.#options.run(rows);
    this.#finished(state, policy, rows, verdicts);
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

function countOutcomes(telemetry: Telemetry, batch: readonly Settlement[], accepted: ReadonlySet<string>): void {
  const counts = new Map<string, number>();
  for (const { row, verdict } of batch) {
    const key = `${accepted.has(row.id) ? verdict.outcome : 'lost'} ${row.kind}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [key, n] of counts) {
    const space = key.indexOf(' ');
    telemetry.settled.add(n, { outcome: key.slice(0, space), kind: key.slice(space + 1) });
  }
}

function rotate(names: string[], first: string | undefined): string[] {
  const at = first === undefined ? -1 : names.indexOf(first);
  return at <= 0 ? names : [...names.slice(at), ...names.slice(0, at)];
}
