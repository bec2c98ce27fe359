import type { Logger } from '../../observe/logger.ts';
import type { HeldRow } from './held-row.ts';
import type { KindState } from './kind-state.ts';

/** Rows that one log line names, at most. */
const namedRows = 100;

/** The calls of handlers that have not ended, each with its rows. A stop leaves those behind that ignore their signal. */
export class OpenRuns {
  readonly #logger: Logger;
  readonly #leaseMs: number;
  readonly #states = new Map<readonly HeldRow[], KindState>();

  constructor(logger: Logger, leaseMs: number) {
    this.#logger = logger;
    this.#leaseMs = leaseMs;
  }

  /** The number of calls that have not ended. */
  get size(): number {
    return this.#states.size;
  }

  /** A call has begun that returned a promise. The array of its rows identifies it. */
  begun(rows: readonly HeldRow[], state: KindState): void {
    this.#states.set(rows, state);
  }

  /** A call has ended. Returns false if a stop has left it behind: then its verdicts are not written. */
  ended(rows: readonly HeldRow[]): boolean {
    if (this.#states.delete(rows)) return true;
    const ids = rows.map(({ row }) => row.id);
    this.#logger.debug({ ids }, 'a handler has ended that a stop had left behind; its verdict is not written');
    return false;
  }

  /** Leaves the calls behind that have not ended, and logs their rows. Returns the rows, which the worker must no longer hold. */
  leave(): readonly HeldRow[] {
    const left = [...this.#states.keys()].flat();
    if (left.length === 0) return left;
    for (const state of this.#states.values()) state.running -= 1;
    this.#states.clear();
    const rows = left.slice(0, namedRows).map(({ row }) => ({ id: row.id, type: row.kind }));
    this.#logger.warn(
      { count: left.length, rows, leaseMs: this.#leaseMs },
      'the worker has stopped though handlers still run that ignore their signal: their leases are not renewed any more, so another worker runs these rows again when the leases have expired. Let a handler end when its signal aborts',
    );
    return left;
  }
}
