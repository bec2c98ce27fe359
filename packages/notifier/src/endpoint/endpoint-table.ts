import {
  type Actor,
  audit,
  type ClaimedRow,
  type Database,
  filterTexts,
  InvalidArgumentError,
  idText,
  insertIgnore,
  keyText,
  pageLimit,
  requireActor,
  type SqlRunner,
  shownValue,
  updateFromValues,
  WorkTable,
  type WorkTableShape,
  wholeNumber,
} from '@holdfast/core';
import { endpointStates } from '../table/schema.ts';
import { plainOrigin, SubscriptionTable } from './subscription-table.ts';

/**
 * Endpoints as claimable rows: only the worker that holds an endpoint's row sends its notifications. The pool is the kind of a row. There
 * are no groups, since workers share requests among endpoints themselves.
 */
export const endpointShape: WorkTableShape = {
  table: 'notifier_endpoint',
  columns: { kind: 'pool', group: 'pool', attempts: 'turns', error: 'last_error' },
  payload: {
    tenant: 'tenant',
    origin: 'origin',
    failures: 'failures',
    opened: 'opened',
    holdMs: 'hold_until - {now}',
    paused: 'paused',
    concurrency: 'concurrency',
    intervalMs: 'interval_ms',
    keyRef: 'key_ref',
    previousKeyRef: 'CASE WHEN previous_key_until > {now} THEN previous_key_ref END',
    url: 'url',
    headers: 'headers',
    delays: 'delays',
    failingMs: '{now} - failing_since',
  },
  states: endpointStates,
  readyIndex: 'notifier_endpoint_ready',
  agingStepMs: 1_000,
};

/** The state of an endpoint that outlives the session of a worker. */
export interface EndpointState {
  /** Consecutive failures that the breaker has counted. */
  readonly failures: number;
  /** Openings of the breaker since the last success. */
  readonly opened: number;
  /** Ms for which nothing may be sent to the endpoint: its breaker is open, its rate is used up, or it asked for a pause by `Retry-After`. */
  readonly holdMs: number;
  /** Time for which no attempt was acknowledged, in ms; `undefined` if the last one was. */
  readonly failingMs: number | undefined;
  /** True if the endpoint is to be disabled, since it has failed for too long. */
  readonly disable: boolean;
}

/** An endpoint as operators see it. */
export interface EndpointView {
  readonly id: string;
  readonly tenant: string;
  /** Scheme, host and port, such as `https://example.com`. */
  readonly origin: string;
  /** The URL of an endpoint that was made by `subscribe`, without its query; `null` for an endpoint that stands for its origin. */
  readonly url: string | null;
  /** The types of event that the endpoint has subscribed to. */
  readonly events: readonly string[];
  /** The names of the headers that its requests carry besides. */
  readonly headers: readonly string[];
  /** The delays between its attempts, in ms; `null` means the notifier's `schedule`. */
  readonly delaysMs: readonly number[] | null;
  /** True if it was PAUSED since its attempts had failed for `disableAfter`. */
  readonly disabled: boolean;
  /** Time since which none of its attempts was acknowledged, in ms since 1970; `null` if the last one was. */
  readonly failingSince: number | null;
  /** Only workers with this pool in their `pools` serve the endpoint. */
  readonly pool: string;
  /** IDLE (nothing to send), WAITING (for a due time, the breaker, the rate limit or the end of `Retry-After`), READY, SERVING or PAUSED. */
  readonly status: string;
  /** An open breaker lets no request through, a half-open one a single request. */
  readonly breaker: 'closed' | 'open' | 'half-open';
  /** Consecutive failures that the breaker has counted. */
  readonly failures: number;
  /** Maximum number of concurrent requests; `null` means the worker's `perEndpoint`. */
  readonly concurrency: number | null;
  /** Maximum number of requests per second; `null` means no limit. */
  readonly ratePerSecond: number | null;
  /** Reference of the key that signs notifications whose trigger names none. */
  readonly keyRef: string | null;
}

const maxCachedIds = 10_000;
/** One request in eleven days: the interval is kept in ms, in 31 bits. */
const leastRate = 0.000_001;

/** Creates, finds and changes endpoints. */
export class EndpointTable {
  readonly work: WorkTable;
  readonly subscriptions: SubscriptionTable;
  readonly #database: Database;
  readonly #name: string;
  /** Ids by tenant and origin. An id never changes, and rows are never deleted. */
  readonly #ids = new Map<string, string>();

  constructor(database: Database) {
    this.#database = database;
    this.#name = database.table('notifier_endpoint');
    this.work = new WorkTable(database, endpointShape);
    this.subscriptions = new SubscriptionTable(database);
  }

  /**
   * Returns the id of an endpoint; creates the endpoint if it is new. Runs outside of the caller's transaction, or two transactions with
   * the same new endpoint would wait for each other. On SQLite, which has one writer, it runs inside.
   */
  async idOf(sql: SqlRunner | undefined, tenant: string, origin: string): Promise<string> {
    const name = `${tenant}\n${origin}`;
    const cached = this.#ids.get(name);
    if (cached) return cached;
    const runner: Pick<SqlRunner, 'rows' | 'run'> = sql && this.#database.family === 'sqlite' ? sql : this.#database;
    const find = (): Promise<{ id: string }[]> =>
      runner.rows(`SELECT ${this.#database.text('id')} AS id FROM ${this.#name} WHERE tenant = ? AND origin = ?`, [tenant, origin]);
    const [there] = await find();
    if (there) {
      // Cache committed ids only: on SQLite, the caller's transaction may have created the row, and may roll back.
      if (this.#ids.size >= maxCachedIds) this.#ids.clear();
      if (runner !== sql) this.#ids.set(name, there.id);
      return there.id;
    }
    await runner.run(insertIgnore(this.#database, this.#name, ['tenant', 'origin']), [tenant, origin]);
    const [made] = await find();
    if (!made) throw new Error('the endpoint that was just created does not exist');
    return made.id;
  }

  /** Creates an endpoint or finds it, and sets its key or pool if given. Returns its id. */
  async register(
    tenant: string,
    origin: string,
    { keyRef, pool }: { readonly keyRef?: string | undefined; readonly pool?: string | undefined },
  ): Promise<string> {
    const id = await this.idOf(undefined, tenant === '' ? '' : keyText('tenant', tenant, 100), origin);
    const set = {
      key_ref: keyRef === undefined ? undefined : keyText('keyRef', keyRef),
      pool: pool === undefined || pool === '' ? pool : keyText('pool', pool, 50),
    };
    for (const [column, value] of Object.entries(set))
      if (value !== undefined) await this.#database.run(`UPDATE ${this.#name} SET ${column} = ? WHERE id = ${id}`, [value]);
    return id;
  }

  /** Returns the reference of the key that signs notifications whose trigger names none. */
  async keyRef(sql: SqlRunner | undefined, tenant: string, origin: string): Promise<string | undefined> {
    const [row] = await (sql ?? this.#database).rows<{ key_ref: string | null }>(
      `SELECT key_ref FROM ${this.#name} WHERE tenant = ? AND origin = ?`,
      [tenant, origin],
    );
    return row?.key_ref ?? undefined;
  }

  /** Reads the settings of endpoints, in the form in which a claim returns them. */
  async settings(ids: readonly string[]): Promise<ReadonlyMap<string, ClaimedRow['payload']>> {
    const { paused, concurrency, intervalMs, keyRef, previousKeyRef, url, headers, delays } = endpointShape.payload;
    const rows = await this.#database.rows<Record<string, string | number | null>>(
      `SELECT ${this.#database.text('id')} AS id, ${paused} AS paused, ${concurrency} AS concurrency, ${intervalMs} AS interval_ms, ${keyRef} AS key_ref, ${previousKeyRef} AS previous_key_ref, ${url} AS url, ${headers} AS headers, ${delays} AS delays FROM ${this.#name} WHERE id IN (${ids.map((id) => idText('id', id)).join(', ')})`,
    );
    const text = (value: string | number | null | undefined): string | null =>
      value === null || value === undefined ? null : String(value);
    return new Map(
      rows.map((row) => [
        String(row.id),
        {
          paused: text(row.paused),
          concurrency: text(row.concurrency),
          intervalMs: text(row.interval_ms),
          keyRef: text(row.key_ref),
          previousKeyRef: text(row.previous_key_ref),
          url: text(row.url),
          headers: text(row.headers),
          delays: text(row.delays),
        },
      ]),
    );
  }

  /** Stores the breakers of endpoints that a worker gives back. An endpoint that was paused meanwhile stays paused; one that is disabled is paused. */
  async keepState(sql: Pick<SqlRunner, 'run'>, ends: readonly ({ readonly id: string } & EndpointState)[]): Promise<void> {
    const update = updateFromValues(this.#database, {
      table: 'notifier_endpoint',
      types: { id: 'id', fails: 'integer', opens: 'integer', hold: 'integer', failing: 'integer', disable: 'integer' },
      rows: ends.map(({ id, failures, opened, holdMs, failingMs, disable }) => ({
        id,
        fails: failures,
        opens: opened,
        hold: Math.ceil(holdMs),
        failing: failingMs === undefined ? null : Math.trunc(failingMs),
        disable: disable ? 1 : 0,
      })),
      on: 't.id = u.id',
      set: {
        failures: 'u.fails',
        opened: 'u.opens',
        hold_until: 'CASE WHEN u.hold > 0 THEN {now} + u.hold ELSE 0 END',
        failing_since: 'CASE WHEN u.failing IS NULL THEN NULL ELSE {now} - u.failing END',
        disabled: 'CASE WHEN u.disable = 1 THEN 1 ELSE t.disabled END',
        status: "CASE WHEN t.paused = 1 OR u.disable = 1 THEN 'PAUSED' ELSE t.status END",
        paused: 'CASE WHEN u.disable = 1 THEN 1 ELSE t.paused END',
      },
    });
    await sql.run(update.sql, update.params);
  }

  async list(query: { readonly tenant?: string; readonly after?: string; readonly limit?: number } = {}): Promise<readonly EndpointView[]> {
    const limit = pageLimit(query);
    const where = [`t.id > ${idText('after', query.after ?? '0')}`, ...(query.tenant === undefined ? [] : ['tenant = ?'])];
    filterTexts({ tenant: query.tenant });
    return this.#views(`${where.join(' AND ')} ORDER BY t.id LIMIT ${limit}`, query.tenant === undefined ? [] : [query.tenant]);
  }

  async get(id: string): Promise<EndpointView | undefined> {
    const [row] = await this.#views(`t.id = ${idText('id', id)}`, []);
    return row;
  }

  /** Stops sending to an endpoint until {@link resume}. Requests in flight complete. Its notifications wait and lose no attempt. */
  async pause(id: string, by: Actor): Promise<boolean> {
    return this.#change(id, by, 'pause', "paused = 1, status = CASE WHEN status = 'SERVING' THEN status ELSE 'PAUSED' END", []);
  }

  async resume(id: string, by: Actor): Promise<boolean> {
    return this.#change(
      id,
      by,
      'resume',
      "paused = 0, disabled = 0, failing_since = NULL, failures = 0, opened = 0, hold_until = 0, claim_rank = {now}, status = CASE WHEN status = 'SERVING' THEN status ELSE 'READY' END",
      [],
    );
  }

  /** Sets limits of an endpoint. `undefined` leaves a limit unchanged, `null` removes it. */
  async limit(
    id: string,
    limits: { readonly concurrency?: number | null; readonly ratePerSecond?: number | null },
    by: Actor,
  ): Promise<boolean> {
    const { concurrency, ratePerSecond } = limits;
    const set: string[] = [];
    if (concurrency !== undefined) {
      set.push(`concurrency = ${concurrency === null ? 'NULL' : wholeNumber('concurrency', concurrency, { most: 10_000 })}`);
    }
    if (ratePerSecond !== undefined) {
      if (ratePerSecond !== null && (typeof ratePerSecond !== 'number' || !(ratePerSecond >= leastRate && ratePerSecond <= 1_000)))
        throw new InvalidArgumentError(
          `ratePerSecond is ${shownValue(ratePerSecond)}; give a number above 0 (${leastRate} at least), up to 1,000, or null.`,
        );
      set.push(`interval_ms = ${ratePerSecond === null ? 'NULL' : Math.ceil(1_000 / ratePerSecond)}`);
    }
    if (set.length === 0) throw new InvalidArgumentError('limit takes { concurrency, ratePerSecond }; give at least one.');
    return this.#change(id, by, 'limit', set.join(', '), []);
  }

  /**
   * Replaces an endpoint's key. For `overlapMs`, requests carry a signature under the previous key as well, so that the receiver can switch
   * in its own time. Notifications whose trigger named a key keep that key.
   */
  async rotate(id: string, keyRef: string, overlapMs: number, by: Actor): Promise<boolean> {
    return this.#change(
      id,
      by,
      'rotate',
      `previous_key_ref = key_ref, previous_key_until = {now} + ${Math.trunc(overlapMs)}, key_ref = ?`,
      [keyText('keyRef', keyRef)],
    );
  }

  async #change(id: string, by: Actor, action: string, set: string, params: readonly unknown[]): Promise<boolean> {
    requireActor(by, action);
    return this.#database.transaction(async (sql) => {
      const changed = await sql.run(`UPDATE ${this.#name} SET ${set}, updated_at = {timestamp} WHERE id = ${idText('id', id)}`, params);
      if (changed > 0) await audit(this.#database, sql, by, `notifier:${action}`, `endpoint ${id}`);
      return changed > 0;
    });
  }

  async #views(where: string, params: readonly unknown[]): Promise<readonly EndpointView[]> {
    const rows = await this.#database.rows<Record<string, string | number | null>>(
      `SELECT ${this.#database.text('id')} AS id, tenant, origin, pool, status, failures, opened, CASE WHEN hold_until > {now} THEN 1 ELSE 0 END AS held, concurrency, interval_ms, key_ref, url, headers, delays, disabled, failing_since FROM ${this.#name} t WHERE ${where}`,
      params,
    );
    const events = await this.subscriptions.events(rows.flatMap((row) => (row.url === null ? [] : [String(row.id)])));
    return rows.map((row) => ({
      id: String(row.id),
      tenant: String(row.tenant),
      origin: plainOrigin(String(row.origin)),
      url: row.url === null ? null : (String(row.url).split('?')[0] ?? ''),
      events: events.get(String(row.id)) ?? [],
      headers: Object.keys(JSON.parse(String(row.headers ?? '{}')) as object),
      delaysMs: row.delays === null ? null : (JSON.parse(String(row.delays)) as number[]),
      disabled: Number(row.disabled) === 1,
      failingSince: row.failing_since === null ? null : Number(row.failing_since),
      pool: String(row.pool),
      status: String(row.status),
      breaker: Number(row.opened) === 0 ? 'closed' : Number(row.held) === 1 ? 'open' : 'half-open',
      failures: Number(row.failures),
      concurrency: row.concurrency === null ? null : Number(row.concurrency),
      ratePerSecond: row.interval_ms === null ? null : Number((1_000 / Number(row.interval_ms)).toPrecision(3)),
      keyRef: row.key_ref === null ? null : String(row.key_ref),
    }));
  }
}
