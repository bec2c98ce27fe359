import { type Database, InvalidArgumentError, requireTransaction, type SqlRunner, statementParts, transactionTrace } from '@holdfast/core';
import type { Knex } from 'knex';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import type { NewNotification, NotificationTable, Triggered } from '../table/notification-table.ts';
import { newNotification, type Trigger, type TriggerRules } from './new-notification.ts';

/** Accepts events. Each is written as a notification that is sent once its transaction has committed. */
export interface NotifierTransaction {
  /**
   * Accepts an event that its receiver must be notified of. An event that was accepted before (same tenant, subject, status and sequence)
   * writes nothing and returns the id of the first notification.
   * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError
   */
  trigger(event: Trigger): Promise<Triggered>;
  /**
   * Accepts many events in a few statements. Returns their results in the same order. If one event is refused, none is written.
   * @throws as {@link trigger}
   */
  triggerMany(events: readonly Trigger[]): Promise<readonly Triggered[]>;
}

export interface TriggerWriterOptions {
  readonly database: Database;
  readonly endpoints: EndpointTable;
  readonly notifications: NotificationTable;
  readonly rules: Omit<TriggerRules, 'endpointKey'>;
  /** Called after the commit with each endpoint that has a new notification. */
  readonly wake: (endpointId: string) => void;
}

interface AddressedNotification {
  readonly notification: NewNotification;
  readonly endpointId: string;
}

/** Checks triggers, writes them as notifications, and wakes their endpoints after the commit. */
export class TriggerWriter {
  readonly #options: TriggerWriterOptions;

  constructor(options: TriggerWriterOptions) {
    this.#options = options;
  }

  /** Triggers within the caller's transaction. @throws NotInTransactionError */
  in(trx: Knex.Transaction): NotifierTransaction {
    requireTransaction(trx, 'in(trx)');
    const { database, endpoints, notifications, wake } = this.#options;
    return {
      trigger: async (event) => {
        const sql = await database.within(trx, 'trigger');
        const checked = await this.#check(event, sql);
        const endpointId = await endpoints.idOf(sql, checked.tenant, checked.origin);
        const triggered = await notifications.insert(sql, endpointId, checked);
        if (!triggered.duplicate) (await transactionTrace(trx)).add(() => wake(endpointId));
        return triggered;
      },
      triggerMany: async (events) => {
        const sql = await database.within(trx, 'triggerMany');
        const items = await this.#checkMany(events, sql);
        const triggered = await this.#insertMany(sql, items);
        (await transactionTrace(trx)).add(() => this.#wakeNew(items, triggered));
        return triggered;
      },
    };
  }

  /** Triggers that each run in a transaction of their own. */
  now(): NotifierTransaction {
    const { database, endpoints, notifications, wake } = this.#options;
    return {
      trigger: async (event) => {
        database.refuseEnclosed('now().trigger');
        const checked = await this.#check(event, undefined);
        // Before the transaction: within it, it would need a second connection of the same pool.
        const endpointId = await endpoints.idOf(undefined, checked.tenant, checked.origin);
        const triggered = await database.transaction((sql) => notifications.insert(sql, endpointId, checked));
        if (!triggered.duplicate) wake(endpointId);
        return triggered;
      },
      triggerMany: async (events) => {
        database.refuseEnclosed('now().triggerMany');
        const items = await this.#checkMany(events, undefined);
        const triggered = await database.transaction((sql) => this.#insertMany(sql, items));
        this.#wakeNew(items, triggered);
        return triggered;
      },
    };
  }

  #check(event: Trigger, sql: SqlRunner | undefined): Promise<NewNotification> {
    const { rules, endpoints } = this.#options;
    return newNotification(event, { ...rules, endpointKey: (tenant, origin) => endpoints.keyRef(sql, tenant, origin) });
  }

  async #checkMany(events: readonly Trigger[], sql: SqlRunner | undefined): Promise<readonly AddressedNotification[]> {
    if (!Array.isArray(events)) throw new InvalidArgumentError('triggerMany takes an array of events.');
    const items: AddressedNotification[] = [];
    for (const event of events) {
      const notification = await this.#check(event, sql);
      items.push({ notification, endpointId: await this.#options.endpoints.idOf(sql, notification.tenant, notification.origin) });
    }
    return items;
  }

  /** Inserts notifications one by one if any of them supersedes others: each such insert reads the other notifications of its subject. */
  async #insertMany(sql: SqlRunner, items: readonly AddressedNotification[]): Promise<readonly Triggered[]> {
    const { notifications } = this.#options;
    const triggered: Triggered[] = [];
    if (items.some(({ notification }) => notification.supersede)) {
      for (const { notification, endpointId } of items) triggered.push(await notifications.insert(sql, endpointId, notification));
      return triggered;
    }
    const rows = items.map(({ notification }) => notification);
    for (const part of statementParts(this.#options.database, rows, { rows: 1_000 }))
      triggered.push(...(await notifications.insertMany(sql, items.slice(triggered.length, triggered.length + part.length))));
    return triggered;
  }

  #wakeNew(items: readonly AddressedNotification[], triggered: readonly Triggered[]): void {
    const ids = new Set(items.flatMap(({ endpointId }, i) => (triggered[i]?.duplicate ? [] : [endpointId])));
    for (const id of ids) this.#options.wake(id);
  }
}
