import { defineLoop, type Loop } from '../../loop/loop.ts';
import type { Logger } from '../../observe/logger.ts';
import type { WorkTable } from '../row/work-table.ts';
import { DueLook } from './due-look.ts';

/** The table, the periods and the passes of a worker's upkeep. */
export interface UpkeepOptions {
  readonly table: WorkTable;
  /** Stands before the names of the loops, in logs. Default none. */
  readonly prefix?: string;
  readonly logger: Logger;
  readonly leaseMs: number;
  /** Shortest pause before SCHEDULED rows are read again, in ms. */
  readonly minPollMs: number;
  /** Longest pause before SCHEDULED rows are read again, in ms. A row that another process schedules may have to wait for it. */
  readonly maxPollMs: () => number;
  /** Called after each pass of `promote` with the number of SCHEDULED rows that became READY. */
  readonly onPromoted: (count: number) => Promise<void> | void;
  /**
   * Takes back rows whose lease has expired, within the last `backMs` if it is given, and returns their number. Runs every 2 s, or every `leaseMs`
   * if that is shorter. It ends after the transaction in hand once `signal` has aborted.
   */
  readonly rescue: (backMs: number | undefined, signal: AbortSignal) => Promise<number>;
  /**
   * Repairs a part of the turns and slots every 2 s; it must cost the same however many there are. Default none, for workers that run neither serial
   * nor capped kinds.
   */
  readonly repair?: ((signal: AbortSignal) => Promise<unknown>) | undefined;
}

/** The loops that every worker over a table of claimable rows runs beside claiming. The worker starts and stops them. */
export interface Upkeep {
  /** Makes SCHEDULED rows READY when they are due. Wake it when a row has been scheduled. */
  readonly promote: Loop<number>;
  /** Takes back rows of dead workers, and repairs turns and slots. */
  readonly others: readonly Loop<unknown>[];
  /** Wakes `promote` if a row that is due in `ms` would have to wait for the end of the pause. */
  scheduledIn(ms: number): void;
}

/** Rows that one pass of `promote` makes READY. */
const promoteRows = 1_000;
/** Longest pause between passes of `promote` that do not look at every row, in ms. */
const shortPollMs = 200;

/** Makes the loops of a worker's upkeep. */
export function createUpkeep(options: UpkeepOptions): Upkeep {
  const { table, prefix = '', logger, repair } = options;
  let nextDueMs = 0;
  const due = new DueLook();
  const expired = new DueLook();
  const promote = defineLoop({
    name: `${prefix}promote`,
    logger,
    runOnce: async () => {
      const look = async (backMs: number | undefined): Promise<number> => {
        const promoted = await table.promote(promoteRows, backMs);
        await options.onPromoted(promoted);
        nextDueMs = promoted === promoteRows ? 0 : ((await table.nextDueMs(backMs)) ?? 5_000);
        return promoted;
      };
      return due.run(look, promoteRows);
    },
    busy: (promoted) => promoted === promoteRows,
    pauseMs: () => {
      // A look that goes back less far does not find every row that is due, and does not know when the next one is.
      const maxMs = due.short ? Math.min(options.maxPollMs(), shortPollMs) : options.maxPollMs();
      return nextDueMs < maxMs ? { untilMs: Math.max(options.minPollMs, nextDueMs) } : maxMs;
    },
  });
  const others: Loop<unknown>[] = [
    defineLoop({
      name: `${prefix}rescue`,
      logger,
      runOnce: ({ signal }) =>
        expired.run(async (backMs) => {
          const rescued = await options.rescue(backMs, signal);
          // A rescue that was ended early has not found all, so it must not count as a look.
          signal.throwIfAborted();
          return rescued;
        }),
      pauseMs: () => Math.min(2_000, options.leaseMs),
    }),
  ];
  if (repair) others.push(defineLoop({ name: `${prefix}gates`, logger, runOnce: ({ signal }) => repair(signal), pauseMs: () => 2_000 }));
  return {
    promote,
    others,
    scheduledIn(ms) {
      if (ms < nextDueMs) promote.wake();
    },
  };
}
