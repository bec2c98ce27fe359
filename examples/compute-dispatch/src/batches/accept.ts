import { createHash } from 'node:crypto';
import { Batcher, type Database, type GuardedSnowflake, HoldfastError, type Snowflake } from '@holdfast/core';
import type { Knex } from 'knex';
import { type Announcers, announce } from '../announce.ts';
import type { Catalogue } from '../catalogue.ts';
import { DispatchError } from '../errors.ts';
import type { Tasks } from '../tasks.ts';
import { byKey, groupedBy, inPortions, insertMany, locked, nowIn, transact } from '../transact.ts';
import type { ApplyRequest } from './views.ts';

export interface AcceptParts extends Announcers {
  readonly knex: Knex;
  readonly database: Database;
  readonly ids: Snowflake;
  /** The `applyId`s of slots. */
  readonly applyIds: GuardedSnowflake;
  readonly catalogue: Catalogue;
  readonly tasks: Tasks;
}

interface Order {
  readonly tenant: string;
  readonly request: ApplyRequest;
  readonly fingerprint: string;
  readonly minimum: number;
  readonly priceVersion: number;
  readonly notifyKey: string | null;
  /** False if neither the order nor the tenant has an address for callbacks. */
  readonly told: boolean;
}

export interface Accepted {
  readonly id: string;
  /** The row as it was saved; `undefined` if the batch existed before. */
  readonly created: Record<string, unknown> | undefined;
}

/**
 * Accepts orders. Orders that arrive at the same time share a transaction, which locks the rows of their tenants: so an order number is
 * used once, and two orders cannot exceed a quota together. A batch, its slots, its message and the task that fills it commit together.
 *
 * A process runs one such transaction at a time. Two were slower, with 1,875 orders/s instead of 2,268: the second waits for the first's
 * tenants.
 */
export class Accept {
  readonly #parts: AcceptParts;
  readonly #batcher: Batcher<Order, Accepted | DispatchError>;
  /** Ids for the slots of orders that were refused: the next orders get them. */
  #unused: readonly string[] = [];
  readonly #withEndpoint = new Set<string>();

  constructor(parts: AcceptParts) {
    this.#parts = parts;
    this.#batcher = new Batcher({ run: (orders) => this.#together(orders), size: 100, calls: 1 });
  }

  /** Accepts an order. @throws DispatchError; nothing is saved then */
  async apply(tenant: string, request: ApplyRequest): Promise<Accepted> {
    const order = await this.#check(tenant, request);
    const result = await this.#batcher.call(order);
    if (result instanceof DispatchError) throw result;
    return result;
  }

  async #check(tenant: string, request: ApplyRequest): Promise<Order> {
    const { notifyUrl, notifySignKey } = request;
    const packages = await this.#parts.catalogue.packages();
    const wanted = packages.get(request.packageId);
    if (!wanted)
      throw new DispatchError(
        'unknown-package',
        `There is no package ${JSON.stringify(request.packageId)}; known are ${[...packages.keys()].join(', ')}.`,
      );
    if (request.count < request.minimum)
      throw new DispatchError(
        'count-below-minimum',
        `count is ${request.count} and minimum ${request.minimum}; ask for at least as many as must be granted.`,
      );
    if ((notifyUrl ?? null) === null && (notifySignKey ?? null) !== null)
      throw new DispatchError(
        'notify-url-missing',
        'notifySignKey is given without notifyUrl; give both, or none and register an address: PUT /v1/callback-endpoint.',
      );
    if ((notifyUrl ?? null) !== null && (notifySignKey ?? null) === null)
      throw new DispatchError(
        'notify-sign-key-missing',
        'notifyUrl is given without notifySignKey, and callbacks are always signed. Give a key as notifySignKey: whsec_ and 24 to 64 bytes in base64.',
      );
    const ownAddress = (notifyUrl ?? null) !== null;
    return {
      tenant,
      request,
      told: ownAddress || (await this.#hasEndpoint(tenant)),
      fingerprint: createHash('sha256')
        .update(JSON.stringify(Object.entries(request).sort()))
        .digest('hex'),
      minimum: request.policy === 'all_or_nothing' ? request.count : request.policy === 'best_effort' ? 1 : request.minimum,
      priceVersion: wanted.priceVersion,
      notifyKey: notifyUrl && notifySignKey ? await this.#parts.callbacks.sealed(tenant, notifyUrl, notifySignKey) : null,
    };
  }

  /** A tenant's address is replaced, and never removed. */
  async #hasEndpoint(tenant: string): Promise<boolean> {
    if (this.#withEndpoint.has(tenant)) return true;
    const has = (await this.#parts.callbacks.endpoint(tenant)) !== undefined;
    if (has) this.#withEndpoint.add(tenant);
    return has;
  }

  async #together(orders: readonly Order[]): Promise<readonly (Accepted | DispatchError)[]> {
    try {
      return await this.#transaction(orders);
    } catch (error) {
      if (!HoldfastError.is(error) && orders.length > 1) {
        // An order that fails where no check caught it must not make the others fail.
        const results: (Accepted | DispatchError)[] = [];
        for (const order of orders) results.push(...(await this.#transaction([order])));
        return results;
      }
      throw error;
    }
  }

  async #transaction(orders: readonly Order[]): Promise<readonly (Accepted | DispatchError)[]> {
    // Before the transaction, which locks tenants: ids may have to wait for the clock.
    const count = orders.reduce((sum, { request }) => sum + request.count, 0);
    // Taken away before the wait: two transactions at once must not get the same ids.
    const unused = this.#unused;
    this.#unused = [];
    const applyIds = [...unused, ...(await this.#parts.applyIds.take(Math.max(0, count - unused.length)))];
    let attempts = 0;
    const { results, used } = await transact(this.#parts.knex, (trx) => {
      attempts += 1;
      return this.#accept(trx, orders, applyIds);
    });
    // After an attempt that failed it is not certain which ids are free.
    if (attempts === 1) this.#unused = applyIds.slice(used);
    return results;
  }

  async #accept(
    trx: Knex.Transaction,
    orders: readonly Order[],
    applyIds: readonly string[],
  ): Promise<{ readonly results: readonly (Accepted | DispatchError)[]; readonly used: number }> {
    const { database, ids, tasks } = this.#parts;
    const tenantIds = [...new Set(orders.map(({ tenant }) => tenant))];
    const tenants = new Map(
      (await locked(trx, byKey(trx, 'dispatch_tenant').whereIn('id', tenantIds).orderBy('id'))).map((row) => [
        String(row.id),
        { free: Number(row.max_slots) - Number(row.used_slots), max: Number(row.max_slots), taken: 0 },
      ]),
    );
    const nowMs = await nowIn(database, trx);
    const known = await this.#known(trx, orders);
    const free = await freeMachines(trx, orders);
    const fresh: { readonly id: string; readonly order: Order; readonly row: Record<string, unknown> }[] = [];
    const results = orders.map((order): Accepted | DispatchError => {
      const { request, tenant } = order;
      const key = orderKey(tenant, request.businessOrderNo);
      const before = known.get(key);
      if (before)
        return before.fingerprint === order.fingerprint
          ? { id: before.id, created: before.row }
          : reused(request.businessOrderNo, before.id);
      const problem = refusal(order, nowMs, tenants.get(tenant), free.get(request.packageId) ?? 0);
      if (problem) return problem;
      const quota = tenants.get(tenant);
      if (quota) {
        quota.free -= request.count;
        quota.taken += request.count;
      }
      const id = ids.next();
      const row = toRow(id, order, nowMs);
      known.set(key, { id, fingerprint: order.fingerprint, row });
      fresh.push({ id, order, row });
      return { id, created: row };
    });
    if (fresh.length === 0) return { results, used: 0 };
    await insertMany(
      trx,
      'dispatch_batch',
      fresh.map(({ row }) => row),
    );
    let used = 0;
    const slots = fresh.flatMap(({ id, order }) =>
      Array.from({ length: order.request.count }, () => ({
        apply_id: applyIds[used++],
        batch_id: id,
        tenant: order.tenant,
        state: 'WANTED',
        changed_ms: nowMs,
      })),
    );
    await insertMany(trx, 'dispatch_slot', slots);
    for (const [tenant, { taken }] of tenants)
      if (taken > 0) await trx('dispatch_tenant').where({ id: tenant }).increment('used_slots', taken);
    const batches = fresh.map(({ id, order }) => ({
      batchId: id,
      tenant: order.tenant,
      businessOrderNo: order.request.businessOrderNo,
      state: 'ACCEPTED' as const,
    }));
    await announce(trx, this.#parts, { batches }, nowMs);
    await tasks.allocate(
      trx,
      fresh.map(({ id, order }) => ({ id, tenant: order.tenant })),
    );
    return { results, used };
  }

  async #known(trx: Knex.Transaction, orders: readonly Order[]): Promise<Map<string, Known>> {
    const known = new Map<string, Known>();
    for (const [tenant, own] of groupedBy(orders, ({ tenant }) => tenant)) {
      const rows = await inPortions(
        own.map(({ request }) => request.businessOrderNo),
        (some) =>
          trx('dispatch_batch').where({ tenant }).whereIn('business_order_no', some).select('id', 'business_order_no', 'fingerprint'),
      );
      for (const row of rows)
        known.set(orderKey(tenant, row.business_order_no), { id: String(row.id), fingerprint: row.fingerprint, row: undefined });
    }
    return known;
  }
}

interface Known {
  readonly id: string;
  readonly fingerprint: string;
  /** The row, if the batch is saved in this transaction. */
  readonly row: Record<string, unknown> | undefined;
}

function toRow(
  id: string,
  { tenant, request, fingerprint, priceVersion, minimum, notifyKey }: Order,
  nowMs: number,
): Record<string, unknown> {
  return {
    id,
    tenant,
    business_order_no: request.businessOrderNo,
    fingerprint,
    package_id: request.packageId,
    price_version: priceVersion,
    policy: request.policy,
    wanted: request.count,
    minimum,
    state: 'ACCEPTED',
    notify_url: request.notifyUrl ?? null,
    notify_key: notifyKey,
    deadline_ms: deadline(request, nowMs),
    created_ms: nowMs,
  };
}

function orderKey(tenant: string, businessOrderNo: string): string {
  return `${tenant}\n${businessOrderNo}`;
}

/** Counts the free machines of each package, up to the largest minimum of the orders: in a full room that reads a few rows, not all. */
async function freeMachines(trx: Knex.Transaction, orders: readonly Order[]): Promise<Map<string, number>> {
  const free = new Map<string, number>();
  for (const [packageId, own] of groupedBy(orders, ({ request }) => request.packageId)) {
    const most = Math.max(...own.map(({ minimum }) => minimum));
    const some = trx('dispatch_machine').where({ package_id: packageId, state: 'FREE' }).select('id').limit(most).as('some');
    free.set(packageId, Number((await trx.from(some).count({ n: '*' }).first())?.n));
  }
  return free;
}

function refusal(
  { tenant, request, minimum, told }: Order,
  nowMs: number,
  quota: { readonly free: number; readonly max: number } | undefined,
  free: number,
): DispatchError | undefined {
  if (!told)
    return new DispatchError(
      'notify-url-missing',
      `Nobody would hear of this order: it has no notifyUrl, and tenant ${tenant} has no registered address. Give notifyUrl and notifySignKey, or register an address first: PUT /v1/callback-endpoint.`,
    );
  if (request.deadline && Date.parse(request.deadline) <= nowMs)
    return new DispatchError(
      'deadline-in-the-past',
      `deadline ${request.deadline} is ${Math.round((nowMs - Date.parse(request.deadline)) / 1000)} s ago.`,
    );
  if (!quota) return new DispatchError('not-found', 'There is no such tenant any more.');
  if (quota.free < request.count)
    return new DispatchError(
      'quota-exceeded',
      `${request.count} slots are asked for and ${Math.max(0, quota.free)} of ${quota.max} are left. Release some, or ask for a larger quota; the order number is still free.`,
    );
  if (free < minimum)
    return new DispatchError(
      'capacity-below-minimum',
      `The room has ${free} free machines of package ${request.packageId}; the minimum is ${minimum}. Lower it or try later: the order number is still free.`,
    );
  return undefined;
}

function reused(businessOrderNo: string, id: string): DispatchError {
  return new DispatchError(
    'order-number-reused',
    `Order ${businessOrderNo} is batch ${id} already, with another body. Use a new order number, or send the first body again.`,
  );
}

function deadline(request: ApplyRequest, nowMs: number): number | null {
  if (request.deadline) return Date.parse(request.deadline);
  return request.applyDurationMinutes ? nowMs + Math.round(request.applyDurationMinutes * 60_000) : null;
}
