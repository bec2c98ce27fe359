import {
  type Actor,
  audit,
  type Database,
  InvalidArgumentError,
  idText,
  insertIgnore,
  keyText,
  requireActor,
  type SqlRunner,
} from '@holdfast/core';
import { urlTarget } from '../trigger/target.ts';

/** An endpoint that an event is sent to. */
export interface Subscriber {
  readonly id: string;
  readonly url: string;
  readonly origin: string;
  readonly keyRef: string | undefined;
}

interface SubscriberRow {
  readonly id: string;
  readonly url: string;
  readonly origin: string;
  readonly key_ref: string | null;
  readonly disabled: number | string;
}

/** The settings of an endpoint with a URL of its own, checked. `undefined` leaves one as it is. */
export interface SubscriberSettings {
  readonly url?: URL | undefined;
  readonly events?: readonly string[] | undefined;
  readonly keyRef?: string | undefined;
  readonly pool?: string | undefined;
  /** As JSON. */
  readonly headers?: string | null | undefined;
  /** The delays between attempts in ms, as JSON. */
  readonly delays?: string | null | undefined;
}

/**
 * Endpoints with a URL of their own, and the types of event that they hear of. Such an endpoint is a row of `notifier_endpoint` of its own,
 * beside the one of its origin: its `origin` carries a hash of the URL, so that a tenant has one per URL.
 */
export class SubscriptionTable {
  readonly #database: Database;
  readonly #endpoints: string;
  readonly #subscriptions: string;

  constructor(database: Database) {
    this.#database = database;
    this.#endpoints = database.table('notifier_endpoint');
    this.#subscriptions = database.table('notifier_subscription');
  }

  /**
   * Returns the endpoints of a tenant with these ids, or those that have subscribed to a type of event; without disabled ones. In the order of
   * their ids, so that two transactions with the same events can't deadlock. Index: the primary key of either table.
   * @throws InvalidArgumentError if the tenant has no such endpoint
   */
  async of(
    sql: SqlRunner | undefined,
    tenant: string,
    which: 'subscribed' | readonly string[],
    type: string,
  ): Promise<readonly Subscriber[]> {
    if (which !== 'subscribed' && !Array.isArray(which))
      throw new InvalidArgumentError("endpoints is neither 'subscribed' nor a list of the ids of endpoints.");
    if (which.length === 0) return [];
    const ids = which === 'subscribed' ? [] : which.map((id) => idText('endpoints', id));
    const [from, params] =
      which === 'subscribed'
        ? [
            `${this.#subscriptions} s JOIN ${this.#endpoints} e ON e.id = s.endpoint_id WHERE s.tenant = ? AND s.event_type IN (?, '*')`,
            [tenant, keyText('status', type, 64)],
          ]
        : [`${this.#endpoints} e WHERE e.tenant = ? AND e.url IS NOT NULL AND e.id IN (${ids.join(', ')})`, [tenant]];
    const found = await (sql ?? this.#database).rows<SubscriberRow>(
      `SELECT ${this.#database.text('e.id')} AS id, e.url, e.origin, e.key_ref, e.disabled FROM ${from}`,
      params,
    );
    // An endpoint may have subscribed to a type and to all.
    const rows = [...new Map(found.map((row) => [row.id, row])).values()];
    const missing = ids.find((id) => !rows.some((row) => row.id === id));
    if (missing !== undefined)
      throw new InvalidArgumentError(
        `The tenant ${JSON.stringify(tenant)} has no endpoint ${missing} with a URL of its own; make it with endpoints.subscribe.`,
      );
    return rows
      .filter(({ disabled }) => Number(disabled) === 0)
      .map(({ id, url, origin, key_ref }) => ({ id, url, origin: plainOrigin(origin), keyRef: key_ref ?? undefined }))
      .sort((one, other) => Number(BigInt(one.id) - BigInt(other.id)));
  }

  /** Creates the endpoint of a tenant with this URL, or finds it, and changes its settings. Returns its id. */
  async save(tenant: string, url: URL, settings: SubscriberSettings): Promise<string> {
    return this.#database.transaction(async (sql) => {
      await sql.run(insertIgnore(this.#database, this.#endpoints, ['tenant', 'origin', 'url']), [tenant, ownOrigin(url), url.href]);
      const [row] = await sql.rows<{ id: string }>(
        `SELECT ${this.#database.text('id')} AS id FROM ${this.#endpoints} WHERE tenant = ? AND origin = ?`,
        [tenant, ownOrigin(url)],
      );
      if (!row) throw new Error('the endpoint that was just created does not exist');
      await this.#set(sql, row.id, tenant, settings);
      return row.id;
    });
  }

  /** Changes the settings of an endpoint. Returns `false` if there is none with this id and a URL of its own. */
  async change(id: string, settings: SubscriberSettings, by: Actor): Promise<boolean> {
    requireActor(by, 'change');
    return this.#database.transaction(async (sql) => {
      const [row] = await sql.rows<{ tenant: string }>(
        `SELECT tenant FROM ${this.#endpoints} WHERE id = ${idText('id', id)} AND url IS NOT NULL`,
      );
      if (!row) return false;
      if (settings.url) {
        const taken = await sql.rows(`SELECT 1 AS one FROM ${this.#endpoints} WHERE tenant = ? AND origin = ? AND id <> ${id}`, [
          row.tenant,
          ownOrigin(settings.url),
        ]);
        if (taken.length > 0) throw new InvalidArgumentError('Another endpoint of the tenant has this URL; change that one.');
      }
      await this.#set(sql, id, row.tenant, settings);
      await audit(this.#database, sql, by, 'notifier:change', `endpoint ${id}`);
      return true;
    });
  }

  /** The types of event that endpoints have subscribed to, by their ids. */
  async events(ids: readonly string[]): Promise<ReadonlyMap<string, readonly string[]>> {
    const found = new Map<string, string[]>(ids.map((id) => [id, []]));
    if (ids.length === 0) return found;
    const rows = await this.#database.rows<{ id: string; event_type: string }>(
      `SELECT ${this.#database.text('endpoint_id')} AS id, event_type FROM ${this.#subscriptions} WHERE endpoint_id IN (${ids.map((id) => idText('id', id)).join(', ')}) ORDER BY event_type`,
    );
    for (const { id, event_type } of rows) found.get(id)?.push(event_type);
    return found;
  }

  async #set(
    sql: SqlRunner,
    id: string,
    tenant: string,
    { url, events, keyRef, pool, headers, delays }: SubscriberSettings,
  ): Promise<void> {
    const set = {
      url: url?.href,
      origin: url && ownOrigin(url),
      key_ref: keyRef === undefined ? undefined : keyText('keyRef', keyRef),
      pool: pool === undefined || pool === '' ? pool : keyText('pool', pool, 50),
      headers,
      delays,
    };
    const changed = Object.entries(set).filter(([, value]) => value !== undefined);
    // Always, since it locks the row: two calls at once must not write the same subscriptions.
    await sql.run(
      `UPDATE ${this.#endpoints} SET ${changed.map(([column]) => `${column} = ?, `).join('')}updated_at = {timestamp} WHERE id = ${id}`,
      changed.map(([, value]) => value),
    );
    if (events === undefined) return;
    await sql.run(`DELETE FROM ${this.#subscriptions} WHERE endpoint_id = ${id}`);
    for (const type of new Set(events))
      await sql.run(`INSERT INTO ${this.#subscriptions} (tenant, event_type, endpoint_id) VALUES (?, ?, ${id})`, [tenant, type]);
  }
}

function ownOrigin(url: URL): string {
  return `${url.origin}#${urlTarget(url.href)}`;
}

/** The origin of an endpoint, without the hash of its URL. */
export function plainOrigin(origin: string): string {
  return origin.split('#')[0] ?? origin;
}
