import { idle } from '../../time/wait.ts';
import type { Claims } from './claims.ts';
import type { HeldRow } from './held-row.ts';
import type { KindPolicy } from './kind-policy.ts';
import type { KindState } from './kind-state.ts';

/** The parts of a worker that {@link LoneRuns} use. */
export interface LoneRunsOptions {
  readonly claims: Claims;
  readonly leaseMs: number;
  readonly kinds: () => ReadonlyMap<string, KindPolicy>;
  readonly stateOf: (kind: string) => KindState;
  readonly stopping: () => boolean;
  /** Gives a row back whose run has not begun. */
  readonly release: (held: HeldRow) => void;
  /** Runs a row. Resolves, or returns `undefined`, when its run has ended. */
  readonly run: (state: KindState, policy: KindPolicy, held: HeldRow) => Promise<void> | undefined;
}

/** True while a row runs alone in this process, in any of its workers. */
let running = false;

/**
 * Runs suspects that have one start left, each alone: one at a time per process, never in a batch. If the process dies again, only that row is
 * given up. A row that has run for the time of a lease no longer keeps the others waiting, or a handler without an end would keep them waiting
 * for ever. They are at risk then if it kills the process after all.
 */
export class LoneRuns {
  readonly #options: LoneRunsOptions;

  constructor(options: LoneRunsOptions) {
    this.#options = options;
  }

  /** Runs the rows with one start left of these kinds, unless a row runs alone already. */
  async run(kinds: readonly string[]): Promise<void> {
    if (running || kinds.length === 0) return;
    running = true;
    try {
      for (const kind of kinds) while (await this.#runNext(kind));
    } finally {
      running = false;
    }
  }

  /** Runs one row of a kind. Returns false if there is none, or none may run now. */
  async #runNext(kind: string): Promise<boolean> {
    const { claims, kinds, stateOf, stopping, release } = this.#options;
    const state = stateOf(kind);
    const policy = kinds().get(kind);
    if (stopping() || !policy || state.alone >= policy.concurrency || (await claims.admit(kind, policy, 1)) < 1) return false;
    let alone: HeldRow | undefined;
    const wanted = { limit: 1, group: '', lost: { from: policy.maxLost - 1, to: 2 ** 31 - 1 } };
    await claims.claim(kind, policy, 1, wanted, ([held]) => {
      if (!held) return;
      state.enter(held.row.group);
      if (stopping()) release(held);
      else alone = held;
    });
    if (!alone) return false;
    await this.#endedOrLong(state, this.#options.run(state, policy, alone));
    return true;
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
}
