import type { Knex } from 'knex';
import { z } from 'zod';

export const tenantView = z.object({
  id: z.string(),
  /** The number of slots that it may have at a time, and of those that it has. */
  maxSlots: z.number(),
  usedSlots: z.number(),
  createdAt: z.string(),
});
export type TenantView = z.infer<typeof tenantView>;

export const tenantId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,59}$/, 'must be lower-case letters, digits and hyphens, at most 60');

/** Customers, and their quotas. */
export class Tenants {
  readonly #knex: Knex;
  readonly #quota: number;

  constructor(knex: Knex, quota: number) {
    this.#knex = knex;
    this.#quota = quota;
  }

  /** Creates a tenant, or changes its quota. */
  async put(id: string, maxSlots: number | undefined, nowMs: number): Promise<TenantView> {
    const row = { id, max_slots: maxSlots ?? this.#quota, used_slots: 0, created_ms: nowMs };
    const inserting = this.#knex('dispatch_tenant').insert(row).onConflict('id');
    await (maxSlots === undefined ? inserting.ignore() : inserting.merge(['max_slots']));
    return (await this.get(id)) as TenantView;
  }

  async get(id: string): Promise<TenantView | undefined> {
    const row = await this.#knex('dispatch_tenant').where({ id }).first();
    return row && view(row);
  }

  async list(after: string | undefined, limit: number): Promise<TenantView[]> {
    const query = this.#knex('dispatch_tenant').orderBy('id').limit(limit);
    if (after !== undefined) query.where('id', '>', after);
    return (await query).map(view);
  }
}

function view(row: Record<string, unknown>): TenantView {
  return {
    id: String(row.id),
    maxSlots: Number(row.max_slots),
    usedSlots: Number(row.used_slots),
    createdAt: new Date(Number(row.created_ms)).toISOString(),
  };
}
