import type { Claims } from './claims.ts';
import type { Floors } from './floors.ts';
import type { HeldRow } from './held-row.ts';
import type { KindPolicy } from './kind-policy.ts';
import type { KindState } from './kind-state.ts';

/** The parts of a worker that a {@link RowClaimer} uses. */
export interface RowClaimerOptions {
  readonly claims: Claims;
  readonly floors: Floors;
  readonly kinds: () => ReadonlyMap<string, KindPolicy>;
  /** The number of rows that the worker holds. */
  readonly held: () => number;
  readonly stopping: () => boolean;
  /** Receives the claimed rows. */
  readonly enqueue: (state: KindState, rows: readonly HeldRow[]) => void;
  /** Asks for a poll, which finds what this class leaves. */
  readonly wake: () => void;
}

/** Rows that one claim takes, at most. */
const maxClaim = 1_000;
/** Rows of a kind that are claimed ahead of their start, at most. */
const maxAhead = 2_000;
/** Rows are claimed ahead for this time of work, in ms. */
const aheadMs = 50;
/** A worker that holds so many rows claims no more. */
const maxHeld = 5_000;
/** Hinted rows of a kind that are claimed by their ids, at most. */
const maxHinted = 16;

/**
 * Decides how many rows of which group a worker claims next, and claims them. The rate at which rows finish decides how many are claimed ahead.
 * Slow handlers get no queue, so that other workers find the waiting rows. No-op handlers get a queue of up to 2,000 rows. (Postgres: 7% more
 * rows a second than with 1,000, with claims of 1,000 instead of 500. A queue of 4,000, claims of 2,000, a third claim or a third settle at a
 * time gave nothing more.)
 */
export class RowClaimer {
  readonly #options: RowClaimerOptions;

  constructor(options: RowClaimerOptions) {
    this.#options = options;
  }

  /** Claims what the rows that wait for their start leave room for: rows of each group with READY rows in turn, and suspects. */
  refill(state: KindState): void {
    const policy = this.#policy(state);
    if (!policy || state.waiting > policy.concurrency * policy.batch + maxAhead / 2) return;
    void this.fill(state);
    if (state.suspects) void this.fillSuspects(state);
  }

  /** Claims as many rows as there is room for, from each group with READY rows in turn. */
  async fill(state: KindState): Promise<void> {
    const policy = this.#policy(state);
    if (!policy) return;
    const { claims, floors, held, stopping, enqueue } = this.#options;
    while (!stopping() && state.groups.length > 0 && state.claiming < 2 && held() < maxHeld) {
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
      const limit = await claims.admit(state.kind, policy, Math.min(free, share, groupRoom, maxClaim));
      if (limit < 1) return;
      state.groups = [...state.groups.slice(1), group];
      state.claiming += 1;
      const from = floors.get(state.kind, group);
      const got = await claims.claim(state.kind, policy, limit, { limit, group, from }, (rows) => {
        const last = rows.at(-1);
        if (last) floors.claimed(state.kind, group, from, last.row.rank);
        enqueue(state, rows);
      });
      state.claiming -= 1;
      if (got === undefined) {
        floors.forget(state.kind, group);
        state.groups = [];
      } else if (got < limit) state.groups = state.groups.filter((name) => name !== group);
    }
  }

  /** Claims suspects, only as many as can start soon: a suspect that waits when the process dies would lose a start without having run. */
  async fillSuspects(state: KindState): Promise<void> {
    const policy = this.#policy(state);
    if (!policy || state.claimingSuspects) return;
    const { claims, held, stopping, enqueue } = this.#options;
    state.claimingSuspects = true;
    while (!stopping() && state.suspects && held() < maxHeld) {
      const places = policy.concurrency * policy.batch;
      const room = (policy.claimAhead === false ? places : Math.max(16, places)) - state.waiting - state.running * policy.batch;
      const limit = room < 1 ? 0 : await claims.admit(state.kind, policy, Math.min(room, maxClaim));
      if (limit < 1) break;
      const wanted = { limit, group: '', lost: { from: 1, to: policy.maxLost - 2 } };
      const got = await claims.claim(state.kind, policy, limit, wanted, (rows) => enqueue(state, rows));
      if (got === undefined || got < limit) state.suspects = false;
    }
    state.claimingSuspects = false;
  }

  /**
   * Claims a new row by its id, together with the rows that are hinted while an earlier claim runs. So a single row needs no poll. If the
   * claim returns no row, another worker has claimed it. Polls instead if groups must get fair shares, if many rows are hinted, or if the
   * kind is busy.
   */
  hint(state: KindState, id: string): void {
    const policy = this.#policy(state);
    if (!policy || this.#options.stopping()) return;
    if (policy.groupConcurrency < Number.MAX_SAFE_INTEGER || state.hinted.length >= maxHinted) {
      this.#options.wake();
      return;
    }
    state.hinted.push(id);
    if (state.claimingHinted) return;
    state.claimingHinted = true;
    // On the next turn of the event loop, so that the claim covers all hints of this turn.
    setImmediate(() => void this.#claimHinted(state));
  }

  async #claimHinted(state: KindState): Promise<void> {
    while (state.hinted.length > 0) await this.#claimIds(state, state.hinted.splice(0));
    state.claimingHinted = false;
  }

  async #claimIds(state: KindState, ids: readonly string[]): Promise<void> {
    const policy = this.#policy(state);
    const { claims, stopping, enqueue, wake } = this.#options;
    if (!policy || stopping()) return;
    const free = policy.concurrency * policy.batch - state.waiting - state.running * policy.batch;
    // A row of a busy kind waits behind rows that are more urgent.
    if (state.groups.length > 0 || free < ids.length) {
      wake();
      return;
    }
    const limit = await claims.admit(state.kind, policy, ids.length);
    if (limit < 1) return;
    await claims.claim(state.kind, policy, limit, { ids: ids.slice(0, limit) }, (rows) => enqueue(state, rows));
    if (limit < ids.length) wake();
  }

  #policy({ kind }: KindState): KindPolicy | undefined {
    return this.#options.kinds().get(kind);
  }
}
