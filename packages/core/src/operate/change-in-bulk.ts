import { wholeNumber } from '../check/whole-number.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';
import { wait } from '../time/wait.ts';
import { requireActor } from './audit.ts';
import type { Actor, BulkCounts, BulkOptions } from './inspectable.ts';

/** Rows per transaction: few enough that no other statement waits long for their locks. */
const pageRows = 200;
/** Rows that are found by one statement. On MySQL and MariaDB the statement sorts all rows that match, so it is not asked for each page. */
const windowRows = 5_000;

/** A row that matches. */
export interface BulkRow {
  readonly id: string;
  /** The place of the row in the order of the source. */
  readonly cursor: string;
}

/** The statements of a change in bulk on one table. */
export interface BulkSource {
  /** The name of the change in the error for a missing actor, as in `redrive`. */
  readonly verb: string;
  /** Reads the next rows that match, in the order of their cursors and without locks. Returns fewer than `limit` only at the end. */
  readonly read: (after: string | undefined, limit: number) => Promise<readonly BulkRow[]>;
  /** Changes those rows that still match, in one transaction with its record in the audit table. Returns the ids of the changed rows. */
  readonly change: (ids: readonly string[], by: Actor) => Promise<readonly string[]>;
}

/**
 * Changes all rows that match, page by page: each page is a transaction of its own, and no lock is held while the rate makes it wait. The
 * cursor only moves forward, so a row that is given up again in the meantime is not met twice.
 * @throws InvalidArgumentError if the actor or the reason is missing, or an option is out of range
 * @throws the reason of the signal, between two pages
 */
export async function changeInBulk({ verb, read, change }: BulkSource, options: BulkOptions): Promise<BulkCounts> {
  const { rate, dryRun = false, signal, onPage } = options;
  const by: Actor = { actor: options.actor ?? '', reason: options.reason ?? '' };
  if (!dryRun) requireActor(by, verb);
  if (rate !== undefined && !(typeof rate === 'number' && rate > 0))
    throw new InvalidArgumentError(`rate is ${shownValue(rate)}; give a number of rows per second, above 0.`);
  if (options.after !== undefined && typeof options.after !== 'string')
    throw new InvalidArgumentError(`after is ${shownValue(options.after)}; give the cursor of a page, or of earlier counts.`);
  const most = options.limit === undefined ? Number.POSITIVE_INFINITY : wholeNumber('limit', options.limit);
  const pageSize = dryRun ? windowRows : Math.max(1, Math.min(pageRows, Math.floor(rate ?? pageRows)));
  let counts: BulkCounts = { matched: 0, changed: 0, after: options.after };
  for (;;) {
    signal?.throwIfAborted();
    const wanted = Math.min(windowRows, most - counts.matched);
    if (wanted === 0) return counts;
    const rows = await read(counts.after, wanted);
    for (let from = 0; from < rows.length; from += pageSize) {
      signal?.throwIfAborted();
      const started = performance.now();
      const page = rows.slice(from, from + pageSize);
      const ids = page.map(({ id }) => id);
      const changed = dryRun ? [] : await change(ids, by);
      counts = {
        matched: counts.matched + ids.length,
        changed: counts.changed + changed.length,
        after: page.at(-1)?.cursor,
      };
      onPage?.({ ids, changed, counts });
      const last = rows.length < wanted && from + pageSize >= rows.length;
      if (rate !== undefined && !dryRun && !last)
        await wait(Math.max(0, (ids.length / rate) * 1_000 - (performance.now() - started)), signal);
    }
    if (rows.length < wanted) return { ...counts, after: undefined };
  }
}
