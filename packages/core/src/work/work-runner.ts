import { LeaseLostError } from '../errors/errors.ts';
import { lifecycle } from '../loop/lifecycle.ts';
import type { Loop } from '../loop/loop.ts';
import { defineLoop } from '../loop/loop.ts';
import type { Service } from '../loop/service.ts';
import { checkpoint } from '../observe/checkpoint.ts';
import type { Logger } from '../observe/logger.ts';
import type { Telemetry } from '../observe/telemetry.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { Settler } from './settler.ts';
import type { Verdict } from './verdict.ts';
import type { ClaimedRow, SettleHook, Settlement, WorkTable } from './work-table.ts';

/** How rows of one kind are run by this worker. */
export interface KindPolicy {
  /** Runs at a time in this worker. */
  readonly concurrency: number;
  /** Rows handed to one run. 1 unless the handler takes batches. */
  readonly batch: number;
  /** Whether DONE rows are kept. */
  readonly keep: boolean;
  /** Rows of one group (tenant) at a time in this worker. */
  readonly groupConcurrency: number;
  /** How many rows may be claimed now: 0 when paused, rate-limited, capped or behind an open breaker. */
  readonly admit: (wanted: number) => number | Promise<number>;
}

/** One row under way, as its handler sees it. */
export interface RunningRow {
  readonly row: ClaimedRow;
  /** Aborts when the lease is lost, the row is cancelled, or the worker gives up waiting at stop. */
  readonly signal: AbortSignal;
}

/** A verdict for each row, by id; `undefined` for a row that has settled itself. */
export type Verdicts = ReadonlyMap<string, Verdict | undefined>;

export interface WorkRunnerOptions {
  readonly table: WorkTable;
  readonly owner: string;
  readonly leaseMs: number;
  readonly kinds: () => ReadonlyMap<string, KindPolicy>;
  /**
   * Runs rows and returns a verdict for each, by id; `undefined` for a row that has settled itself.
   * Must not throw. A result that is there at once costs no promise: no-op handlers gain a third by it.
   */
  readonly run: (rows: readonly RunningRow[]) => Verdicts | Promise<Verdicts>;
  readonly settleHook?: (settlements: readonly Settlement[]) => SettleHook | undefined;
  readonly onSettled?: (settlement: Settlement, accepted: boolean) => void;
  readonly onLeaseLost?: (row: ClaimedRow) => void;
  /** How long to wait for running handlers at stop, in ms, before their signals abort. */
  readonly stopMs: number;
  /** Longest pause between looks when nothing wakes the worker, in ms. */
  readonly maxPollMs: () => number;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

class Held implements RunningRow {
  readonly row: ClaimedRow;
  deadline: number;
  #controller: AbortController | undefined;
  #reason: Error | undefined;

  constructor(row: ClaimedRow, deadline: number) {
    this.row = row;
    this.deadline = deadline;
  }

  /** Made when first asked for: most handlers never look. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#reason) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  abort(reason: Error): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}

class KindState {
  readonly kind: string;
  queue: Held[] = [];
  /** Index of the next row of `queue`: shifting an array of a thousand for each row is not free. */
  next = 0;
  pumping = false;
  running = 0;
  claiming = 0;
  /** Groups with READY rows at the last look, served in turn. */
  groups: string[] = [];
  inGroup = new Map<string, number>();
  /** Rows finished per ms, smoothed: how far ahead it pays to claim. */
  rate = 0;
  finished = 0;
  measuredAt = monotonicMs();

  constructor(kind: string) {
    this.kind = kind;
  }

  /** Rows claimed and not yet started. */
  get waiting(): number {
    return this.queue.length - this.next;
  }

  /** The next rows to run. */
  take(count: number): Held[] {
    const rows = this.queue.slice(this.next, this.next + count);
    this.next += rows.length;
    if (this.next === this.queue.length) {
      this.queue = [];
      this.next = 0;
    }
    return rows;
  }

  drain(): Held[] {
    const rows = this.queue.slice(this.next);
    this.queue = [];
    this.next = 0;
    return rows;
  }
}

const maxClaim = 1_000;
const maxAhead = 2_000;
const aheadMs = 50;
const maxUnsettled = 5_000;
let suspectRunning = false;

/**
 * Claims, runs and settles rows of one table. Three things overlap: the next claim, the handlers, and the settling of
 * what is finished. How far it claims ahead follows from how fast rows finish: slow handlers get no queue, so other
 * workers find their work; no-op handlers get up to 2,000 rows (7% more than 1,000 on Postgres, with claims of 1,000 instead of 500).
 */
export class WorkRunner implements Service {
  readonly #options: WorkRunnerOptions;
  readonly #kinds = new Map<string, KindState>();
  readonly #held = new Map<string, Held>();
  readonly #settler: Settler;
  readonly #look: Loop<number>;
  readonly #lifecycle: Service;
  #claimsOpen = 0;
  #suspectKinds: string[] = [];
  #ticker: NodeJS.Timeout | undefined;
  #renewedAt = 0;
  #renewing = false;
  #stopping = false;
  #stopped: (() => void)[] = [];

  constructor(options: WorkRunnerOptions) {
    this.#options = options;
    this.#settler = new Settler({
      logger: options.logger,
      write: async (batch) => {
        await checkpoint('work:before-settle');
        const accepted = await options.table.settle(batch, options.settleHook?.(batch));
        await checkpoint('work:after-settle');
        this.#count(batch, accepted);
        return accepted;
      },
      onSettled: (settlement, accepted) => this.#settled(settlement, accepted),
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
    this.#look = defineLoop({
      name: 'work',
      logger: options.logger,
      runOnce: () => this.#lookOnce(),
      pauseMs: (found) => (found !== undefined && found > 0 ? 100 : undefined),
      minMs: 50,
      get maxMs() {
        return options.maxPollMs();
      },
    });
  }

  /** Rows held at present. */
  get inFlight(): number {
    return this.#held.size;
  }

  /** There may be work: look now. */
  wake(): void {
    this.#look.wake();
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.stop();
  }

  async #start(): Promise<void> {
    this.#stopping = false;
    this.#renewedAt = monotonicMs();
    this.#ticker = setInterval(() => this.#tick(), Math.max(20, Math.min(500, this.#options.leaseMs / 10)));
    await this.#look.start();
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    await this.#look.stop();
    for (const state of this.#kinds.values()) {
      for (const held of state.drain()) this.#settler.push({ row: held.row, verdict: { outcome: 'release' }, keep: true });
    }
    const timer = setTimeout(() => {
      for (const held of this.#held.values())
        held.abort(new LeaseLostError('The worker is stopping and has waited long enough for this handler; its row will run again.'));
    }, this.#options.stopMs);
    await this.#settler.drain();
    while (this.#claimsOpen > 0 || this.#busy() > 0) await new Promise<void>((resolve) => this.#stopped.push(resolve));
    await this.#settler.drain();
    clearTimeout(timer);
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }

  /** Aborts the signal of a row that this worker runs (after its cancellation was committed). */
  abort(id: string, reason: Error): void {
    this.#held.get(id)?.abort(reason);
  }

  #busy(): number {
    let running = 0;
    for (const state of this.#kinds.values()) running += state.running;
    return running;
  }

  /** One look at what is READY; claims where there is room. Returns how many kinds had work. */
  async #lookOnce(): Promise<number> {
    if (this.#stopping) return 0;
    const policies = this.#options.kinds();
    if (policies.size === 0) return 0;
    const ready = await this.#options.table.ready();
    const groups = new Map<string, string[]>();
    this.#suspectKinds = [];
    for (const { kind, group, suspects } of ready) {
      if (!policies.has(kind)) continue;
      if (suspects) this.#suspectKinds.push(kind);
      else groups.set(kind, [...(groups.get(kind) ?? []), group]);
    }
    for (const [kind, names] of groups) this.#state(kind).groups = rotate(names, this.#state(kind).groups[0]);
    for (const [kind, state] of this.#kinds) if (!groups.has(kind)) state.groups = [];
    for (const kind of groups.keys()) void this.#fill(this.#state(kind));
    void this.#runSuspects();
    return groups.size + this.#suspectKinds.length;
  }

  #state(kind: string): KindState {
    let state = this.#kinds.get(kind);
    if (!state) this.#kinds.set(kind, (state = new KindState(kind)));
    return state;
  }

  /** Claims what fits, in turn from each group that has something. */
  async #fill(state: KindState): Promise<void> {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy) return;
    while (!this.#stopping && state.groups.length > 0 && state.claiming < 2 && this.#held.size < maxUnsettled) {
      const capacity = policy.concurrency * policy.batch + Math.min(maxAhead, Math.trunc(state.rate * aheadMs));
      const inUse = state.waiting + state.running * policy.batch;
      const free = capacity - inUse - state.claiming * maxClaim;
      // Half of the room free, or nothing waiting: fewer and larger claims.
      if (free < 1 || (inUse > 0 && free < capacity / 2 && state.waiting > policy.batch)) return;
      const group = state.groups[0] ?? '';
      const share = state.groups.length > 1 ? Math.max(1, Math.ceil(capacity / state.groups.length)) : free;
      const groupRoom = policy.groupConcurrency - (state.inGroup.get(group) ?? 0);
      if (groupRoom < 1) {
        state.groups = state.groups.slice(1);
        continue;
      }
      const limit = await policy.admit(Math.min(free, share, groupRoom, maxClaim));
      if (limit < 1) return;
      state.groups = [...state.groups.slice(1), group];
      state.claiming += 1;
      this.#claimsOpen += 1;
      try {
        const sentAt = monotonicMs();
        const rows = await this.#options.table.claim({
          kind: state.kind,
          group,
          limit,
          owner: this.#options.owner,
          leaseMs: this.#options.leaseMs,
        });
        await checkpoint('work:after-claim');
        if (rows.length < limit) state.groups = state.groups.filter((name) => name !== group);
        this.#take(state, rows, sentAt);
      } catch (error) {
        state.groups = [];
        this.#options.logger.debug({ err: error, kind: state.kind }, 'a claim failed; it is tried again');
      } finally {
        state.claiming -= 1;
        this.#claimsOpen -= 1;
        this.#notifyStopped();
      }
    }
  }

  /** Adds rows that are ours now; `sentAt` is when the claim left, from which our own deadline counts. */
  #take(state: KindState, rows: readonly ClaimedRow[], sentAt: number): void {
    if (rows.length === 0) return;
    this.#options.telemetry.claimed.add(rows.length, { kind: state.kind });
    const deadline = sentAt + this.#options.leaseMs;
    for (const row of rows) {
      const held = new Held(row, deadline);
      this.#held.set(row.id, held);
      state.inGroup.set(row.group, (state.inGroup.get(row.group) ?? 0) + 1);
      if (this.#stopping) this.#settler.push({ row, verdict: { outcome: 'release' }, keep: true });
      else state.queue.push(held);
    }
    this.#pump(state);
  }

  /** Starts handlers while there is room. Handlers that end at once are run in this loop, not in ever deeper calls. */
  #pump(state: KindState): void {
    const policy = this.#options.kinds().get(state.kind);
    if (!policy || state.pumping) return;
    state.pumping = true;
    try {
      while (!this.#stopping && state.queue.length > state.next && state.running < policy.concurrency) {
        const taken = state.take(policy.batch);
        const rows = taken.some((held) => held.aborted) ? taken.filter((held) => !held.aborted) : taken;
        // Lost or cancelled while they waited: let go, or they would count as held for good.
        for (const held of taken) if (held.aborted) this.#forget(held.row);
        if (rows.length > 0) void this.#runRows(state, policy, rows);
      }
    } finally {
      state.pumping = false;
    }
    if (!this.#stopping && state.waiting <= policy.concurrency * policy.batch + maxAhead / 2) void this.#fill(state);
  }

  #runRows(state: KindState, policy: KindPolicy, rows: readonly Held[]): Promise<void> | undefined {
    state.running += 1;
    const paused = checkpoint('work:before-run');
    if (paused) return this.#runSlowly(paused, state, policy, rows);
    const verdicts = this.#options.run(rows);
    if (verdicts instanceof Promise) return verdicts.then((done) => this.#finished(state, policy, rows, done));
    this.#finished(state, policy, rows, verdicts);
    return undefined;
  }

  /** With a checkpoint hook set. */
  async #runSlowly(paused: Promise<void>, state: KindState, policy: KindPolicy, rows: readonly Held[]): Promise<void> {
    await paused;
    const verdicts = await this.#options.run(rows);
    this.#finished(state, policy, rows, verdicts);
  }

  #finished(state: KindState, policy: KindPolicy, rows: readonly Held[], verdicts: Verdicts): void {
    void checkpoint('work:after-run');
    state.running -= 1;
    state.finished += rows.length;
    for (const held of rows) {
      const verdict = verdicts.get(held.row.id);
      if (verdict === undefined) this.#forget(held.row);
      else this.#settler.push({ row: held.row, verdict, keep: policy.keep });
    }
    this.#measure(state);
    this.#pump(state);
    this.#notifyStopped();
  }

  /** A row that may have killed its process runs alone: one suspect per process at a time, never in a batch. */
  async #runSuspects(): Promise<void> {
    if (suspectRunning || this.#suspectKinds.length === 0) return;
    suspectRunning = true;
    this.#claimsOpen += 1;
    try {
      for (const kind of this.#suspectKinds) {
        for (;;) {
          const policy = this.#options.kinds().get(kind);
          if (this.#stopping || !policy || (await policy.admit(1)) < 1) break;
          const sentAt = monotonicMs();
          const [row] = await this.#options.table.claim({
            kind,
            group: '',
            limit: 1,
            owner: this.#options.owner,
            leaseMs: this.#options.leaseMs,
            suspects: true,
          });
          if (!row) break;
          await checkpoint('work:after-claim');
          const held = new Held(row, sentAt + this.#options.leaseMs);
          this.#held.set(row.id, held);
          const state = this.#state(kind);
          state.inGroup.set(row.group, (state.inGroup.get(row.group) ?? 0) + 1);
          await this.#runRows(state, policy, [held]);
        }
      }
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'claiming a suspect failed; it is tried again');
    } finally {
      suspectRunning = false;
      this.#claimsOpen -= 1;
      this.#notifyStopped();
    }
  }

  #measure(state: KindState): void {
    const now = monotonicMs();
    const elapsed = now - state.measuredAt;
    if (elapsed < 20) return;
    const rate = state.finished / elapsed;
    state.rate = state.rate === 0 ? rate : 0.7 * state.rate + 0.3 * rate;
    state.finished = 0;
    state.measuredAt = now;
  }

  #settled(settlement: Settlement, accepted: boolean): void {
    this.#forget(settlement.row);
    if (!accepted) this.#options.onLeaseLost?.(settlement.row);
    this.#options.onSettled?.(settlement, accepted);
  }

  #count(batch: readonly Settlement[], accepted: ReadonlySet<string>): void {
    const counts = new Map<string, number>();
    for (const { row, verdict } of batch) {
      const key = `${accepted.has(row.id) ? verdict.outcome : 'lost'} ${row.kind}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    for (const [key, n] of counts) {
      const space = key.indexOf(' ');
      this.#options.telemetry.settled.add(n, { outcome: key.slice(0, space), kind: key.slice(space + 1) });
    }
  }

  #forget(row: ClaimedRow): void {
    // The same row may be ours again under a later version, while a run that lost it is still ending.
    if (this.#held.get(row.id)?.row.version === row.version) this.#held.delete(row.id);
    const state = this.#state(row.kind);
    const left = (state.inGroup.get(row.group) ?? 1) - 1;
    if (left === 0) state.inGroup.delete(row.group);
    else state.inGroup.set(row.group, left);
    this.#notifyStopped();
  }

  #notifyStopped(): void {
    if (!this.#stopping) return;
    const waiting = this.#stopped;
    this.#stopped = [];
    for (const resolve of waiting) resolve();
  }

  /** Aborts what has outlived its lease by our own monotonic clock, and renews the rest every third of the lease. */
  #tick(): void {
    const now = monotonicMs();
    for (const held of this.#held.values()) {
      if (held.deadline > now || held.aborted) continue;
      this.#options.telemetry.leaseLost.add(1, { kind: held.row.kind });
      held.abort(
        new LeaseLostError(
          `The lease on row ${held.row.id} (${held.row.kind}) ran out ${Math.round(now - held.deadline)} ms ago: renewals did not get through. Stop; the row runs again elsewhere.`,
        ),
      );
    }
    if (this.#renewing || now - this.#renewedAt < this.#options.leaseMs / 3 || this.#held.size === 0) return;
    this.#renewedAt = now;
    this.#renewing = true;
    void this.#renew(now).finally(() => {
      this.#renewing = false;
    });
  }

  async #renew(sentAt: number): Promise<void> {
    const { table, owner, leaseMs, logger } = this.#options;
    const rows = [...this.#held.values()].filter((held) => !held.aborted);
    try {
      await checkpoint('work:before-renew');
      const renewed = await table.renew(
        rows.map((held) => held.row.id),
        owner,
        leaseMs,
      );
      const missing: Held[] = [];
      for (const held of rows) {
        if (renewed.get(held.row.id) === held.row.version) held.deadline = sentAt + leaseMs;
        else missing.push(held);
      }
      if (missing.length === 0) return;
      // Locked by a settle under way, or gone: a look without locks tells which.
      const still = await table.held(
        missing.map((held) => held.row.id),
        owner,
      );
      for (const held of missing) {
        if (still.get(held.row.id) === held.row.version || !this.#held.has(held.row.id)) continue;
        held.abort(
          new LeaseLostError(
            `Row ${held.row.id} (${held.row.kind}) was cancelled or taken over while it ran. Stop; nothing more of this run will be accepted.`,
          ),
        );
      }
    } catch (error) {
      logger.debug({ err: error }, 'leases could not be renewed; they are tried again until they run out');
      this.#renewedAt = 0;
    }
  }
}

function rotate(names: string[], first: string | undefined): string[] {
  const at = first === undefined ? -1 : names.indexOf(first);
  return at <= 0 ? names : [...names.slice(at), ...names.slice(0, at)];
}
