import { type Database, InvalidArgumentError, requireTransaction, type SqlRunner, transactionTrace } from '@holdfast/core';
import type { Knex } from 'knex';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import type { NewNotification, NotificationTable, Triggered } from '../table/notification-table.ts';
import { newNotification, type Trigger, type TriggerRules } from './new-notification.ts';

/** Triggers that commit with a transaction. */
export interface NotifierTransaction {
  /**
   * An event that must be heard of. The same event (tenant, subject, status, sequence) again is a no-op that returns the first.
   * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError
   */
  trigger(event: Trigger): Promise<Triggered>;
  /**
   * The same of many events, in a handful of statements. Returns what came of each, in order. None is written if one of them is refused.
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

interface Addressed {
  readonly one: NewNotification;
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

  /** Triggers in transactions of their own. */
  now(): NotifierTransaction {
    const { database, endpoints, notifications, wake } = this.#options;
    return {
      trigger: async (event) => {
        const checked = await this.#check(event, undefined);
        // Before the transaction: within it, it would need a second connection of the same pool.
        const endpointId = await endpoints.idOf(undefined, checked.tenant, checked.origin);
        const triggered = await database.transaction((sql) => notifications.insert(sql, endpointId, checked));
        if (!triggered.duplicate) wake(endpointId);
        return triggered;
      },
      triggerMany: async (events) => {
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

  async #checkMany(events: readonly Trigger[], sql: SqlRunner | undefined): Promise<readonly Addressed[]> {
    if (!Array.isArray(events)) throw new InvalidArgumentError('triggerMany takes an array of events.');
    const items: Addressed[] = [];
    for (const event of events) {
      const one = await this.#check(event, sql);
      items.push({ one, endpointId: await this.#options.endpoints.idOf(sql, one.tenant, one.origin) });
    }
    return items;
  }

  /** Those that supersede others one by one, since each looks at what is there of its subject. */
  async #insertMany(sql: SqlRunner, items: readonly Addressed[]): Promise<readonly Triggered[]> {
    const { notifications } = this.#options;
    const triggered: Triggered[] = [];
    if (items.some(({ one }) => one.supersede)) {
      for (const { one, endpointId } of items) triggered.push(await notifications.insert(sql, endpointId, one));
      return triggered;
    }
    for (let from = 0; from < items.length; from += 1_000)
      triggered.push(...(await notifications.insertMany(sql, items.slice(from, from + 1_000))));
    return triggered;
  }

  #wakeNew(items: readonly Addressed[], triggered: readonly Triggered[]): void {
    const ids = new Set(items.flatMap(({ endpointId }, i) => (triggered[i]?.duplicate ? [] : [endpointId])));
    for (const id of ids) this.#options.wake(id);
  }
}
