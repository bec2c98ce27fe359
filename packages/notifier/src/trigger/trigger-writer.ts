import { type Database, InvalidArgumentError, requireTransaction, type SqlRunner, statementParts, transactionTrace } from '@holdfast/core';
import type { Knex } from 'knex';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import type { SubscriptionTable } from '../endpoint/subscription-table.ts';
import type { NewNotification, NotificationTable, Triggered } from '../table/notification-table.ts';
import { type Destination, type FanOut, newNotification, type Trigger, type TriggerRules, tenantOf } from './new-notification.ts';
import { endpointTarget, urlTarget } from './target.ts';

/** The result of an event for one of several endpoints. */
export interface FannedOut extends Triggered {
  /** Id of the endpoint. */
  readonly endpoint: string;
}

/** Accepts events. Each is written as a notification that is sent once its transaction has committed. */
export interface NotifierTransaction {
  /**
   * Accepts an event that its receiver must be notified of. An event that was accepted before (same tenant, subject, status, sequence and
   * URL) writes nothing and returns the id of the first notification. In a transaction, `keys` is called but no promise of it is waited for,
   * since the transaction holds locks: a key that is missing then shows at the first attempt. A signature in the body needs the key at once,
   * and waits.
   * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError, CallTimeoutError
   */
  trigger(event: Trigger): Promise<Triggered>;
  /**
   * Accepts an event for several endpoints, each with a notification of its own. Returns one result for each, in the order of their ids; none
   * if no endpoint has subscribed.
   */
  trigger(event: FanOut): Promise<readonly FannedOut[]>;
  /**
   * Accepts many events in a few statements. Returns their results in the same order. If one event is refused, none is written.
   * @throws as {@link trigger}
   */
  triggerMany(events: readonly Trigger[]): Promise<readonly Triggered[]>;
}

export interface TriggerWriterOptions {
  readonly database: Database;
  readonly endpoints: EndpointTable;
  readonly subscriptions: SubscriptionTable;
  readonly notifications: NotificationTable;
  readonly rules: TriggerRules;
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
    const { database } = this.#options;
    return this.#calls(
      (what) => database.within(trx, what),
      async (sql, items) => {
        const triggered = await this.#insert(sql as SqlRunner, items);
        (await transactionTrace(trx)).add(() => this.#wakeNew(items, triggered));
        return triggered;
      },
    );
  }

  /** Triggers that each run in a transaction of their own. Whatever waits comes before it. */
  now(): NotifierTransaction {
    const { database } = this.#options;
    return this.#calls(
      async (what) => {
        database.refuseEnclosed(`now().${what}`);
        return undefined;
      },
      async (_sql, items) => {
        if (items.length === 0) return [];
        const triggered = await database.transaction((sql) => this.#insert(sql, items));
        this.#wakeNew(items, triggered);
        return triggered;
      },
    );
  }

  #calls(
    begin: (what: string) => Promise<SqlRunner | undefined>,
    write: (sql: SqlRunner | undefined, items: readonly AddressedNotification[]) => Promise<readonly Triggered[]>,
  ): NotifierTransaction {
    const trigger = async (event: Trigger | FanOut): Promise<Triggered | readonly FannedOut[]> => {
      const sql = await begin('trigger');
      if (typeof event !== 'object' || event === null)
        throw new InvalidArgumentError('trigger takes { subjectId, status, url, payload, … }.');
      if (event.endpoints === undefined) {
        const [triggered] = await write(sql, [await this.#addressed(event, sql)]);
        return triggered as Triggered;
      }
      const items = await this.#fanOut(event, sql);
      const triggered = await write(sql, items);
      return triggered.map((one, i) => ({ ...one, endpoint: items[i]?.endpointId ?? '' }));
    };
    return {
      trigger: trigger as NotifierTransaction['trigger'],
      triggerMany: async (events) => {
        const sql = await begin('triggerMany');
        if (!Array.isArray(events)) throw new InvalidArgumentError('triggerMany takes an array of events.');
        const items: AddressedNotification[] = [];
        for (const event of events as readonly Trigger[]) {
          if (typeof event !== 'object' || event === null || (event as { endpoints?: unknown }).endpoints !== undefined)
            throw new InvalidArgumentError('triggerMany takes events with a url; call trigger for an event with endpoints.');
          items.push(await this.#addressed(event, sql));
        }
        return write(sql, items);
      },
    };
  }

  async #addressed(event: Trigger, sql: SqlRunner | undefined): Promise<AddressedNotification> {
    const { rules, endpoints } = this.#options;
    const { href, origin } = rules.egress.check(event.url);
    const tenant = tenantOf(event);
    const destination: Destination = {
      target: urlTarget(href),
      url: href,
      origin,
      keyRef: () => endpoints.keyRef(sql, tenant, origin),
      subscribed: false,
    };
    const notification = await newNotification(event, destination, rules, sql !== undefined);
    // Before a transaction of our own: within it, this would need a second connection of the same pool.
    return { notification, endpointId: await endpoints.idOf(sql, tenant, origin) };
  }

  async #fanOut(event: FanOut, sql: SqlRunner | undefined): Promise<readonly AddressedNotification[]> {
    const { rules, subscriptions } = this.#options;
    if (event.url !== undefined) throw new InvalidArgumentError('Pass url or endpoints, not both.');
    const found = await subscriptions.of(sql, tenantOf(event), event.endpoints, event.status);
    const items: AddressedNotification[] = [];
    for (const { id, url, origin, keyRef } of found) {
      const destination: Destination = { target: endpointTarget(id), url, origin, keyRef: async () => keyRef, subscribed: true };
      items.push({ endpointId: id, notification: await newNotification(event, destination, rules, sql !== undefined) });
    }
    return items;
  }

  /** Inserts notifications one by one if any of them supersedes others: each such insert reads the other notifications of its subject. */
  async #insert(sql: SqlRunner, items: readonly AddressedNotification[]): Promise<readonly Triggered[]> {
    const { notifications } = this.#options;
    const triggered: Triggered[] = [];
    if (items.length === 1 || items.some(({ notification }) => notification.supersede)) {
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
