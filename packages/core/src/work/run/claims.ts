import { checkpoint } from '../../observe/checkpoint.ts';
import type { Logger } from '../../observe/logger.ts';
import type { Telemetry } from '../../observe/telemetry.ts';
import { monotonicMs } from '../../time/monotonic.ts';
import type { ClaimQuery } from '../row/claim-rows.ts';
import type { WorkTable } from '../row/work-table.ts';
import { HeldRow } from './held-row.ts';
import type { KindPolicy } from './kind-policy.ts';
import type { LeaseKeeper } from './lease-keeper.ts';

/** The table and the worker that claims from it. */
export interface ClaimsOptions {
  readonly table: WorkTable;
  readonly owner: string;
  readonly leaseMs: number;
  /** Renews the leases of the rows from their claim on. */
  readonly leases: LeaseKeeper;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
  /** True once the worker is stopping: then no claim begins. */
  readonly stopping: () => boolean;
  /** Called when a claim has ended, also one that failed. */
  readonly onEnded: () => void;
}

/** The rows that a claim wants: rows of a group or suspects, or rows by their ids. */
export type Wanted = Pick<ClaimQuery, 'limit' | 'group' | 'lost' | 'from'> | { readonly ids: readonly string[] };

/** The claims of one worker. A claim has two steps: `admit` asks the policy of the kind how many rows may be claimed, `claim` claims them. */
export class Claims {
  readonly #options: ClaimsOptions;
  #open = 0;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  /** The number of claims that have not ended. */
  get open(): number {
    return this.#open;
  }

  /** Returns how many rows may be claimed. Claims are not awaited, so an error of the policy (of a breaker, say) must not leave this method. */
  async admit(kind: string, policy: KindPolicy, wanted: number): Promise<number> {
    try {
      const admitted = await policy.admit(wanted);
      if (admitted < 1 || !this.#options.stopping()) return admitted;
      // A stop that has found no claim under way does not wait for one that begins now.
      policy.claimed?.(admitted, 0);
      return 0;
    } catch (error) {
      this.#options.logger.debug({ err: error, kind }, 'the admission check failed; retrying');
      return 0;
    }
  }

  /**
   * Claims rows and passes them to `deliver` while the claim still counts as open, so that `stop` can't miss them. Returns their number, or
   * `undefined` if the claim failed. Their deadline counts from before the claim was sent.
   * @param admitted the number that `admit` returned; the policy learns how many of them were claimed
   */
  async claim(
    kind: string,
    policy: KindPolicy,
    admitted: number,
    wanted: Wanted,
    deliver: (rows: readonly HeldRow[]) => void,
  ): Promise<number | undefined> {
    const claimed = await this.#claim(kind, policy, wanted, deliver);
    policy.claimed?.(admitted, claimed ?? 0);
    return claimed;
  }

  async #claim(
    kind: string,
    { cap }: KindPolicy,
    wanted: Wanted,
    deliver: (rows: readonly HeldRow[]) => void,
  ): Promise<number | undefined> {
    const { table, owner, leaseMs, leases, logger, telemetry, onEnded } = this.#options;
    this.#open += 1;
    try {
      const deadline = monotonicMs() + leaseMs;
      const rows =
        'ids' in wanted
          ? await table.claimIds(wanted.ids, { kind, owner, leaseMs }, cap)
          : await table.claim({ kind, owner, leaseMs, ...wanted }, cap);
      await checkpoint('work:after-claim');
      if (rows.length > 0) telemetry.claimed.add(rows.length, { kind });
      deliver(
        rows.map((row) => {
          const held = new HeldRow(row, deadline);
          leases.add(held);
          return held;
        }),
      );
      return rows.length;
    } catch (error) {
      logger.debug({ err: error, kind }, 'a claim failed; retrying');
      return undefined;
    } finally {
      this.#open -= 1;
      onEnded();
    }
  }
}
