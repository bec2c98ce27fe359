import { keyText } from '../check/key-text.ts';
import { wholeNumber } from '../check/whole-number.ts';
import type { Database } from '../database/database.ts';
import { insertIgnore } from '../database/insert-ignore.ts';
import { durationMs } from '../time/duration.ts';

/** When a breaker opens, and for how long. */
export interface BreakerOptions {
  /** The number of failures in a row that opens the breaker. Default 10. */
  readonly failures: number;
  /** How long the breaker stays open at first, in ms. The time doubles with each probe that fails. Default 30,000. */
  readonly openMs: number;
  /** The longest time that the breaker stays open before a probe, in ms. Default 600,000. */
  readonly maxOpenMs: number;
}

export const breakerDefaults: BreakerOptions = { failures: 10, openMs: 30_000, maxOpenMs: 600_000 };

/**
 * Checks the options of a breaker, and fills in the defaults. Times are rounded to whole ms: PostgreSQL refuses a fraction where it stores one,
 * and a breaker that can't be asked lets nothing start.
 * @throws InvalidArgumentError
 */
export function breakerOptions(options: Partial<BreakerOptions> = {}): BreakerOptions {
  return {
    failures: wholeNumber('breaker.failures', options.failures ?? breakerDefaults.failures, { most: 1_000_000 }),
    openMs: durationMs(options.openMs ?? breakerDefaults.openMs, 'breaker.openMs'),
    maxOpenMs: durationMs(options.maxOpenMs ?? breakerDefaults.maxOpenMs, 'breaker.maxOpenMs'),
  };
}

/**
 * Stops work after failures in a row, and lets one probe find out when the cause has passed.
 *
 * ```
 * closed --failures in a row--> open --time over, one probe taken--> half --success--> closed
 *                                ^                                     |
 *                                '------------- failure (doubled) -----'   (a probe that never reports: open again later)
 * ```
 * Its state is in the database, so that every process sees the same. A row that waits behind it loses no attempt.
 */
export class Breaker {
  readonly #database: Database;
  readonly #table: string;
  readonly #options: BreakerOptions;

  /** @throws InvalidArgumentError */
  constructor(database: Database, options: Partial<BreakerOptions> = {}) {
    this.#database = database;
    this.#table = database.table('holdfast_breaker');
    this.#options = breakerOptions(options);
  }

  /** Returns which calls may start now: all, none, or one probe, which is then this caller's. */
  async admit(scope: string, name: string): Promise<'all' | 'probe' | 'none'> {
    const [row] = await this.#database.rows<{ state: string }>(`SELECT state FROM ${this.#table} WHERE scope = ? AND name = ?`, [
      scope,
      name,
    ]);
    if (row === undefined || row.state === 'closed') return 'all';
    // The caller whose update changes the row gets the probe. The update also replaces a probe that never reported.
    const taken = await this.#database.run(
      `UPDATE ${this.#table} SET state = 'half', until_ms = {now} + ? WHERE scope = ? AND name = ? AND state <> 'closed' AND until_ms <= {now}`,
      [this.#options.openMs, scope, name],
    );
    return taken === 1 ? 'probe' : 'none';
  }

  /** Gives back a probe that was not used, as no call was waiting: the next caller gets it. */
  async giveBack(scope: string, name: string): Promise<void> {
    await this.#database.run(`UPDATE ${this.#table} SET state = 'open', until_ms = {now} WHERE scope = ? AND name = ? AND state = 'half'`, [
      scope,
      name,
    ]);
  }

  /**
   * Reports calls that ended: `ok` is the number of those that succeeded, `failed` of those that failed after the last success. A success
   * closes the breaker and resets the count of failures.
   */
  async report(scope: string, name: string, result: { readonly ok: number; readonly failed: number }): Promise<void> {
    const { failures, openMs, maxOpenMs } = this.#options;
    if (result.ok > 0) {
      await this.#database.run(
        `UPDATE ${this.#table} SET state = 'closed', failures = 0, opened = 0 WHERE scope = ? AND name = ? AND (state = 'half' OR (state = 'closed' AND failures > 0))`,
        [scope, name],
      );
    }
    if (result.failed === 0) return;
    keyText('scope', scope, 100);
    keyText('name', name);
    await this.#database.run(insertIgnore(this.#database, this.#table, ['scope', 'name']), [scope, name]);
    await this.#database.run(`UPDATE ${this.#table} SET failures = failures + ? WHERE scope = ? AND name = ?`, [
      result.failed,
      scope,
      name,
    ]);
    const power =
      this.#database.family === 'sqlite'
        ? '(1 << CASE WHEN opened > 16 THEN 16 ELSE opened END)'
        : 'POWER(2, CASE WHEN opened > 16 THEN 16 ELSE opened END)';
    const least = this.#database.family === 'sqlite' ? 'min' : 'LEAST';
    await this.#database.run(
      `UPDATE ${this.#table} SET state = 'open', until_ms = {now} + ${least}(${maxOpenMs}, ${openMs} * ${power}), opened = opened + 1 WHERE scope = ? AND name = ? AND (state = 'half' OR (state = 'closed' AND failures >= ?))`,
      [scope, name, failures],
    );
  }

  /** The state of the breaker; `closed` if nothing was ever reported. */
  async state(scope: string, name: string): Promise<'closed' | 'open' | 'half'> {
    const [row] = await this.#database.rows<{ state: 'closed' | 'open' | 'half' }>(
      `SELECT state FROM ${this.#table} WHERE scope = ? AND name = ?`,
      [scope, name],
    );
    return row?.state ?? 'closed';
  }
}
