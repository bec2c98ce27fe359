import {
  type Database,
  InvalidArgumentError,
  keyText,
  requireTransaction,
  type SqlRunner,
  statementParts,
  transactionTrace,
} from '@holdfast/core';
import type { Knex } from 'knex';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import type { Subscriber, SubscriptionTable } from '../endpoint/subscription-table.ts';
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
   * Accepts many events in a few statements. Returns their results in the same order. An event that is given twice is a duplicate the second
   * time. If one event is refused, none is written.
   * @throws as {@link trigger}
   */
  triggerMany(events: readonly Trigger[]): Promise<readonly Triggered[]>;
  /** Accepts many events, each for several endpoints. Returns a list for each event, with one result for each of its endpoints. */
  triggerMany(events: readonly FanOut[]): Promise<readonly (readonly FannedOut[])[]>;
  /** Accepts many events, for URLs and for endpoints. Returns for each event what {@link trigger} returns for it: one result, or a list. */
  triggerMany(events: readonly (Trigger | FanOut)[]): Promise<readonly (Triggered | readonly FannedOut[])[]>;
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

/** An event as the notifications that it becomes: one for a URL, one for each of its endpoints. */
interface AddressedEvent {
  readonly fansOut: boolean;
  readonly items: readonly AddressedNotification[];
}

/** The endpoints that have subscribed, by tenant and type of event, as far as the events of one call have asked for them. */
type Subscribed = Map<string, readonly Subscriber[]>;

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
    const accept = async (sql: SqlRunner | undefined, events: readonly (Trigger | FanOut)[]) => {
      const subscribed: Subscribed = new Map();
      const addressed: AddressedEvent[] = [];
      for (const event of events) addressed.push(await this.#addressed(event, sql, subscribed));
      const triggered = await write(
        sql,
        addressed.flatMap(({ items }) => items),
      );
      return resultsOf(addressed, triggered);
    };
    const isEvent = (event: unknown): boolean => typeof event === 'object' && event !== null;
    return {
      trigger: (async (event: Trigger | FanOut) => {
        const sql = await begin('trigger');
        if (!isEvent(event)) throw new InvalidArgumentError('trigger takes { subjectId, status, payload, … }, and url or endpoints.');
        const [result] = await accept(sql, [event]);
        return result;
      }) as NotifierTransaction['trigger'],
      triggerMany: (async (events: readonly (Trigger | FanOut)[]) => {
        const sql = await begin('triggerMany');
        // A copy: `every` leaves the holes of a sparse list out.
        const all = Array.isArray(events) ? [...events] : [undefined];
        if (!all.every(isEvent))
          throw new InvalidArgumentError('triggerMany takes events: a list of { subjectId, status, payload, … }, and url or endpoints.');
        return accept(sql, all);
      }) as NotifierTransaction['triggerMany'],
    };
  }

  async #addressed(event: Trigger | FanOut, sql: SqlRunner | undefined, subscribed: Subscribed): Promise<AddressedEvent> {
    return event.endpoints === undefined
      ? { fansOut: false, items: [await this.#toUrl(event, sql)] }
      : { fansOut: true, items: await this.#toEndpoints(event, sql, subscribed) };
  }

  async #toUrl(event: Trigger, sql: SqlRunner | undefined): Promise<AddressedNotification> {
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

  async #toEndpoints(event: FanOut, sql: SqlRunner | undefined, subscribed: Subscribed): Promise<readonly AddressedNotification[]> {
    const { rules } = this.#options;
    if (event.url !== undefined) throw new InvalidArgumentError('Pass url or endpoints, not both.');
    const found = await this.#subscribers(event, sql, subscribed);
    const items: AddressedNotification[] = [];
    for (const { id, url, origin, keyRef } of found) {
      const destination: Destination = { target: endpointTarget(id), url, origin, keyRef: async () => keyRef, subscribed: true };
      items.push({ endpointId: id, notification: await newNotification(event, destination, rules, sql !== undefined) });
    }
    return items;
  }

  /** Reads the subscribers of each type once per call. */
  async #subscribers(event: FanOut, sql: SqlRunner | undefined, subscribed: Subscribed): Promise<readonly Subscriber[]> {
    const { subscriptions } = this.#options;
    const tenant = tenantOf(event);
    const status = keyText('status', event.status, 64);
    if (event.endpoints !== 'subscribed') return subscriptions.of(sql, tenant, event.endpoints, status);
    const name = JSON.stringify([tenant, status]);
    const found = subscribed.get(name) ?? (await subscriptions.of(sql, tenant, 'subscribed', status));
    subscribed.set(name, found);
    return found;
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

/** The results of events, each as {@link NotifierTransaction.trigger} returns it. */
function resultsOf(events: readonly AddressedEvent[], triggered: readonly Triggered[]): readonly (Triggered | readonly FannedOut[])[] {
  let taken = 0;
  return events.map(({ fansOut, items }) => {
    const results = triggered.slice(taken, taken + items.length);
    taken += items.length;
    return fansOut ? results.map((one, i) => ({ ...one, endpoint: items[i]?.endpointId ?? '' })) : (results[0] as Triggered);
  });
}
