import type { Knex } from 'knex';
import { z } from 'zod';
import type { Feed } from './feed.ts';
import type { Invoices } from './invoices.ts';

export const timelineEntry = z.object({
  at: z.string(),
  /** The part of the service that recorded the entry. */
  by: z.enum(['apply', 'task', 'outbox', 'inbox', 'room', 'billing', 'invoice', 'callback']),
  /** `batch`, or the slot's `applyId`. */
  of: z.string(),
  what: z.string(),
  detail: z.string().nullable(),
});
export type TimelineEntry = z.infer<typeof timelineEntry>;

/**
 * The history of a batch, or of one of its slots, in order of time: collected from the tables of all parts by the business key that each of
 * them keeps (`subject`, `apply_id`).
 */
export class Timeline {
  readonly #knex: Knex;
  readonly #feed: Feed;
  readonly #invoices: Invoices;

  constructor(knex: Knex, feed: Feed, invoices: Invoices) {
    this.#knex = knex;
    this.#feed = feed;
    this.#invoices = invoices;
  }

  async of(batch: Record<string, unknown>, applyId?: string): Promise<TimelineEntry[]> {
    const batchId = String(batch.id);
    const entries: TimelineEntry[] = [];
    const add = (atMs: unknown, by: TimelineEntry['by'], of: string, what: string, detail: string | null = null): void => {
      if (atMs !== null && atMs !== undefined)
        entries.push({ at: new Date(Number(atMs)).toISOString(), by, of: of === batchId ? 'batch' : of, what, detail });
    };
    add(
      batch.created_ms,
      'apply',
      batchId,
      'ACCEPTED',
      `order ${batch.business_order_no}, ${batch.wanted} × ${batch.package_id}, ${batch.policy}`,
    );
    add(batch.started_ms, 'apply', batchId, 'MINIMUM_REACHED', `${batch.minimum} granted: machines are switched on`);
    for (const row of await this.#knex('compensate_biz').where({ subject: batchId }).orderBy('id').limit(200))
      add(
        Date.parse(String(row.updated_at)) || undefined,
        'task',
        batchId,
        `${row.biz_type} ${row.status}`,
        `${row.starts} starts${row.last_failed_reason ? `, last failure ${row.last_failed_reason}` : ''}`,
      );
    const subjects = applyId === undefined ? await this.#subjects(batchId) : [batchId, applyId];
    const waiting = await this.#knex('outbox_message')
      .whereIn('subject', subjects.slice(0, 1_000))
      .select('topic', 'subject', 'first_put_at')
      .limit(500);
    for (const row of waiting) add(row.first_put_at, 'outbox', String(row.subject), 'WAITING', `${row.topic} is not published yet`);
    for (const event of await this.#feed.of(batchId)) {
      if (applyId !== undefined && event.subject !== applyId && event.type === 'slot.changed') continue;
      const lag = Date.parse(event.heardAt) - Date.parse(event.at);
      const machine = event.data.machineId ? ` on ${String(event.data.machineId)}` : '';
      add(Date.parse(event.at), 'inbox', event.subject, String(event.data.state), `${event.type}${machine}, heard ${lag} ms later`);
    }
    if (applyId === undefined) return entries.sort(byTime);
    for (const lease of await this.#knex('dispatch_lease').where({ apply_id: applyId })) {
      add(lease.held_ms, 'room', applyId, 'RESERVED', `machine ${lease.machine_id}, epoch ${lease.epoch}`);
      add(lease.granted_ms, 'room', applyId, 'GRANTED', `by the room's clock`);
      add(lease.releasing_ms, 'room', applyId, 'RELEASING');
      add(lease.released_ms, 'room', applyId, 'RELEASED', `machine ${lease.machine_id}`);
      for (const event of await this.#knex('dispatch_power_event').where({ lease_id: lease.id }))
        add(
          event.occurred_ms,
          'room',
          applyId,
          `POWER ${event.kind}`,
          `said by ${event.source}, stored ${Number(event.stored_ms) - Number(event.occurred_ms)} ms later`,
        );
    }
    for (const charge of await this.#knex('dispatch_charge').where({ apply_id: applyId }).limit(1_000))
      add(
        charge.created_ms,
        'billing',
        applyId,
        charge.kind.toUpperCase(),
        `${Number(charge.ms) / 1000} s, ${charge.amount_cents} cents, price version ${charge.price_version}`,
      );
    for (const invoice of await this.#invoices.of(applyId))
      add(Date.parse(invoice.to), 'invoice', applyId, invoice.state.toUpperCase(), `${invoice.id} in ${invoice.shard}`);
    const attempts = await this.#knex('notifier_notification as n')
      .join('notifier_attempt as a', 'a.notification_id', 'n.id')
      .where({ 'n.subject_id': applyId, 'n.tenant': batch.tenant })
      .select('n.status', 'a.outcome', 'a.started_at', 'a.http_status')
      .limit(500);
    for (const row of attempts)
      add(row.started_at, 'callback', applyId, String(row.status), `${row.outcome}${row.http_status ? `, HTTP ${row.http_status}` : ''}`);
    return entries.sort(byTime);
  }

  async #subjects(batchId: string): Promise<string[]> {
    const slots = await this.#knex('dispatch_slot').where({ batch_id: batchId }).select('apply_id').limit(999);
    return [batchId, ...slots.map((row) => String(row.apply_id))];
  }
}

function byTime(a: TimelineEntry, b: TimelineEntry): number {
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}
