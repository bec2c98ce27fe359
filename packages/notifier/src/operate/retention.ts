import { type Database, durationMs, LeaseTable, type Logger, Orphans } from '@holdfast/core';
import type { NotifierOptions } from '../notifier-options.ts';
import type { NotificationTable } from '../table/notification-table.ts';

export interface RetentionOptions {
  readonly database: Database;
  readonly notifications: NotificationTable;
  readonly keep: NotifierOptions['keep'];
  readonly keepFailed: NotifierOptions['keepFailed'];
  readonly remember: NotifierOptions['remember'];
  readonly logger: Logger;
}

/** How long notifications are kept once they have ended. */
export class Retention {
  readonly #database: Database;
  readonly #notifications: NotificationTable;
  readonly #logger: Logger;
  readonly #keepMs: number;
  /** `undefined`: EXHAUSTED and GONE notifications are kept for ever. */
  readonly #keepFailedMs: number | undefined;
  readonly #rememberMs: number;
  readonly #orphans: readonly Orphans[];

  /** @throws InvalidArgumentError */
  constructor({ database, notifications, keep, keepFailed, remember, logger }: RetentionOptions) {
    this.#database = database;
    this.#notifications = notifications;
    this.#logger = logger;
    this.#keepMs = durationMs(keep ?? '30d', 'keep');
    this.#rememberMs = durationMs(remember ?? '90d', 'remember');
    // A failed notification is not forgotten before one that was delivered.
    const failed = keepFailed ?? Math.max(durationMs('180d'), this.#keepMs);
    this.#keepFailedMs = failed === 'all' ? undefined : durationMs(failed, 'keepFailed');
    this.#orphans = [
      new Orphans(database, {
        table: 'notifier_attempt',
        key: 'notification_id',
        parentColumn: 'notification_id',
        parentTable: 'notifier_notification',
      }),
      new Orphans(database, { table: 'notifier_wake', key: 'id', parentColumn: 'endpoint_id', parentTable: 'notifier_endpoint' }),
    ];
  }

  /**
   * Deletes notifications that ended long enough ago, and attempts, wake rows and leases whose owners are gone. Ends after the page in hand
   * once `signal` has aborted. Returns the number of deleted notifications.
   */
  async purge(signal?: AbortSignal): Promise<number> {
    const ended = await this.#notifications.purge(['DELIVERED', 'CANCELLED'], this.#keepMs, this.#rememberMs, signal);
    const failed =
      this.#keepFailedMs === undefined
        ? 0
        : await this.#notifications.purge(['EXHAUSTED', 'GONE'], this.#keepFailedMs, this.#rememberMs, signal);
    if (failed > 0)
      this.#logger.warn(
        { failed },
        "notifications that were EXHAUSTED or GONE for longer than keepFailed were deleted; they can't be sent any more",
      );
    for (const orphans of this.#orphans) await orphans.sweep(signal);
    await new LeaseTable(this.#database).purge();
    return ended + failed;
  }
}
