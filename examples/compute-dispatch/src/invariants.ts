import type { Database } from '@holdfast/core';
import type { Outbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { z } from 'zod';
import type { PowerKind, PowerSource, StoredPowerEvent } from './power/event.ts';
import { fold, ranMs } from './power/fold.ts';
import type { DispatchAdapter } from './room/adapter.ts';
import type { topics } from './topics.ts';
import { groupedBy, inPortions } from './transact.ts';

export const verdict = z.object({
  id: z.string(),
  rule: z.string(),
  holds: z.boolean(),
  /** The rows that break the rule, or the number of rows that were checked. */
  detail: z.string(),
});
export type Verdict = z.infer<typeof verdict>;

/** The times in which a lease's machine really ran, from a room that records them. */
export interface TrueLease {
  readonly token: string;
  readonly intervals: readonly { readonly fromMs: number; readonly toMs: number | null }[];
}

export interface InvariantParts {
  readonly knex: Knex;
  readonly database: Database;
  readonly room: DispatchAdapter;
  readonly outbox: Outbox<typeof topics>;
}

/** The number of leases, the newest, whose bills are folded again and compared. */
const leasesChecked = 2_000;
/** The next sweep releases a lease that only the room has; the lease may exist for this long. */
const orphanMs = 130_000;
const finalWithinMs = 60_000;

/** Checks on the tables the rules that must hold at any time. */
export class Invariants {
  readonly #parts: InvariantParts;
  readonly #orphans = new Map<string, number>();

  constructor(parts: InvariantParts) {
    this.#parts = parts;
  }

  /** Bills are compared with `truth`, if the room reports it. With `quiet` nothing is in progress, so lag excuses nothing. */
  async check(options: { readonly truth?: readonly TrueLease[] | undefined; readonly quiet?: boolean } = {}): Promise<Verdict[]> {
    const { knex, database } = this.#parts;
    const nowMs = await database.now();
    const leases = await this.#leases();
    return [
      await this.#uniqueLeases(),
      await none(
        'I2',
        'No more machines than were ordered',
        knex.from(this.#tooMany().as('t')),
        'batches have another number of slots than was ordered',
      ),
      await this.#belowMinimum(),
      await none(
        'I4',
        'Every batch has its result within 60 s of its deadline',
        knex('dispatch_batch')
          .whereNull('result')
          .where((late) =>
            late
              .where('deadline_ms', '<', nowMs - finalWithinMs)
              .orWhere((none) => none.whereNull('deadline_ms').where('created_ms', '<', nowMs - finalWithinMs)),
          ),
        'batches are late',
      ),
      intervalsHold(leases),
      usageHolds(leases, options.truth, options.quiet ?? false),
      await this.#told(options.quiet ?? false),
      await this.#epochs(),
      await this.#orphansHold(nowMs, options.quiet ?? false),
      await none(
        'I10',
        'One batch for a tenant and order number',
        knex.from(knex('dispatch_batch').groupBy('tenant', 'business_order_no').havingRaw('COUNT(*) > 1').select('tenant').as('t')),
        'order numbers have several batches',
      ),
    ];
  }

  async #uniqueLeases(): Promise<Verdict> {
    const { knex } = this.#parts;
    let broken = 0;
    for (const columns of [['machine_id'], ['room', 'ip'], ['apply_id']])
      broken += Number(
        (
          await knex
            .from(knex('dispatch_lease').where({ active: 1 }).groupBy(columns).havingRaw('COUNT(*) > 1').select(columns).as('t'))
            .count({ n: '*' })
            .first()
        )?.n,
      );
    const active = Number((await knex('dispatch_lease').where({ active: 1 }).count({ n: '*' }).first())?.n);
    return said(
      'I1',
      'One active lease for a machine, an address, a slot',
      broken === 0,
      broken === 0 ? `${active} active leases` : `${broken} have several`,
    );
  }

  /** Counted by slots: each has at most one lease by I1. */
  #tooMany(): Knex.QueryBuilder {
    const { knex } = this.#parts;
    return knex('dispatch_batch as b')
      .leftJoin('dispatch_slot as s', 's.batch_id', 'b.id')
      .groupBy('b.id', 'b.wanted')
      .havingRaw('COUNT(s.apply_id) <> b.wanted')
      .select('b.id');
  }

  async #belowMinimum(): Promise<Verdict> {
    const { knex } = this.#parts;
    const rule = 'Below the minimum nothing is switched on, and nothing is billed';
    const on = await knex('dispatch_batch as b')
      .join('dispatch_slot as s', 's.batch_id', 'b.id')
      .whereNull('b.started_ms')
      .where((up) => up.whereIn('s.state', ['STARTING', 'RUNNING', 'ENDED']).orWhereNotNull('s.desired'))
      .count({ n: '*' })
      .first();
    const billed = await knex('dispatch_batch as b')
      .join('dispatch_lease as l', 'l.batch_id', 'b.id')
      .whereNull('b.started_ms')
      .where((used) => used.where('l.charges', '>', 0).orWhereNotNull('l.power'))
      .count({ n: '*' })
      .first();
    const [slots, charged] = [Number(on?.n), Number(billed?.n)];
    return said(
      'I3',
      rule,
      slots + charged === 0,
      slots + charged === 0 ? 'of every batch' : `${slots} slots were switched on, ${charged} leases billed`,
    );
  }

  /** The newest leases, each with the fold of its events. */
  async #leases(): Promise<CheckedLease[]> {
    const { knex } = this.#parts;
    const rows = await knex('dispatch_lease').orderBy('id', 'desc').limit(leasesChecked);
    const ids = rows.map(({ id }) => String(id));
    const events = groupedBy(await inPortions(ids, (some) => knex('dispatch_power_event').whereIn('lease_id', some)), ({ lease_id }) =>
      String(lease_id),
    );
    const charges = groupedBy(await inPortions(ids, (some) => knex('dispatch_charge').whereIn('lease_id', some)), ({ lease_id }) =>
      String(lease_id),
    );
    return rows.map((row) => {
      const own = (events.get(String(row.id)) ?? []).map((event) => ({
        id: String(event.id),
        kind: event.kind as PowerKind,
        source: event.source as PowerSource,
        occurredMs: Number(event.occurred_ms),
        sequence: Number(event.sequence),
      }));
      const releasedMs = row.released_ms === null ? undefined : Number(row.released_ms);
      return {
        id: String(row.id),
        released: row.state === 'RELEASED',
        grantedMs: row.granted_ms === null ? undefined : Number(row.granted_ms),
        releasedMs,
        billedToMs: row.billed_to_ms === null ? undefined : Number(row.billed_to_ms),
        billedMs: Number(row.billed_ms),
        chargedMs: (charges.get(String(row.id)) ?? []).reduce((sum, { ms }) => sum + Number(ms), 0),
        due: row.fold_due_ms !== null,
        folded: fold(own, releasedMs),
        told: own.filter(({ kind, source }) => source !== 'provisional' && (kind === 'ON' || kind === 'OFF')),
      };
    });
  }

  /** Each announced change was written together with its message. */
  async #told(quiet: boolean): Promise<Verdict> {
    const { knex, outbox } = this.#parts;
    const rule = 'A change and its message exist together';
    const { unsent, dead } = await outbox.stats();
    const changes = Number((await knex('dispatch_slot').sum({ n: 'news' }).first())?.n ?? 0);
    const batches = Number(
      (
        await knex('dispatch_batch')
          .sum({ n: knex.raw('1 + passes + CASE WHEN result IS NULL THEN 0 ELSE 1 END + CASE WHEN ended_ms IS NULL THEN 0 ELSE 1 END') })
          .first()
      )?.n ?? 0,
    );
    const heard = Number((await knex('dispatch_event').count({ n: '*' }).first())?.n);
    const missing = changes + batches - heard;
    // Messages that were published and not yet received are left out.
    const holds = missing >= 0 && dead === 0 && (!quiet || missing === 0);
    return said('I7', rule, holds, `${changes + batches} changes, ${heard} heard, ${unsent} messages wait, ${dead} dead`);
  }

  async #epochs(): Promise<Verdict> {
    const { knex } = this.#parts;
    const rule = 'A stale epoch changes nothing';
    const foreign = await knex('dispatch_power_event as e')
      .join('dispatch_lease as l', 'l.id', 'e.lease_id')
      .where((wrong) => wrong.whereRaw('e.epoch <> l.epoch').orWhereRaw('e.machine_id <> l.machine_id').orWhereRaw('e.token <> l.id'))
      .count({ n: '*' })
      .first();
    const behind = await knex('dispatch_machine as m')
      .join('dispatch_lease as l', (on) => on.on('l.machine_id', 'm.id').andOnVal('l.active', 1))
      .whereRaw('m.epoch <> l.epoch')
      .count({ n: '*' })
      .first();
    const kept = await knex('dispatch_power_event').whereNull('lease_id').count({ n: '*' }).first();
    const broken = Number(foreign?.n) + Number(behind?.n);
    return said(
      'I8',
      rule,
      broken === 0,
      broken === 0 ? `${Number(kept?.n)} stale or foreign events are kept and count for nothing` : `${broken} rows`,
    );
  }

  async #orphansHold(nowMs: number, quiet: boolean): Promise<Verdict> {
    const rule = 'No machine is leased in the room and not here, for two sweeps';
    const seen = new Set<string>();
    try {
      let after: string | undefined;
      do {
        const page = await this.#parts.room.list({ limit: 1_000, ...(after === undefined ? {} : { after }) });
        const tokens = page.machines.flatMap(({ lease }) => lease?.token ?? []);
        const rows = await inPortions(tokens, (some) =>
          this.#parts.knex('dispatch_lease').whereIn('id', some).where({ active: 1 }).select('id'),
        );
        const active = new Set(rows.map(({ id }) => String(id)));
        for (const token of tokens) if (!active.has(token)) seen.add(token);
        after = page.next ?? undefined;
      } while (after !== undefined);
    } catch {
      return said('I9', rule, !quiet, 'the room does not answer at the moment');
    }
    for (const token of this.#orphans.keys()) if (!seen.has(token)) this.#orphans.delete(token);
    for (const token of seen) if (!this.#orphans.has(token)) this.#orphans.set(token, nowMs);
    const old = [...this.#orphans.values()].filter((sinceMs) => quiet || sinceMs < nowMs - orphanMs).length;
    return said('I9', rule, old === 0, old === 0 ? `${seen.size} at this moment` : `${old} for too long`);
  }
}

interface CheckedLease {
  readonly id: string;
  readonly released: boolean;
  readonly grantedMs: number | undefined;
  readonly releasedMs: number | undefined;
  readonly billedToMs: number | undefined;
  readonly billedMs: number;
  readonly chargedMs: number;
  readonly due: boolean;
  readonly folded: ReturnType<typeof fold>;
  /** Each power-on and power-off that the room reported, at the time or later. */
  readonly told: readonly StoredPowerEvent[];
}

function intervalsHold(leases: readonly CheckedLease[]): Verdict {
  const broken = leases.flatMap((lease) => {
    const wrong = wrongWith(lease);
    return wrong.length === 0 ? [] : [`${lease.id}: ${wrong.join(', ')}`];
  });
  return said(
    'I5',
    'Billed times of a lease never overlap, never leave the lease, and add up to its bill',
    broken.length === 0,
    broken.length === 0 ? `${leases.length} leases` : `${broken.length} leases; ${broken.slice(0, 5).join('; ')}`,
  );
}

function wrongWith({ folded, released, grantedMs, due, billedMs, chargedMs, billedToMs }: CheckedLease): readonly string[] {
  const { intervals, power } = folded;
  const wrong: string[] = [];
  for (const [i, { fromMs }] of intervals.entries()) {
    if (i > 0 && fromMs < (intervals[i - 1]?.toMs ?? Number.POSITIVE_INFINITY)) wrong.push(`on at ${fromMs} while it was on`);
    if (fromMs < (grantedMs ?? Number.POSITIVE_INFINITY)) wrong.push(`on at ${fromMs}, granted at ${grantedMs ?? 'no time'}`);
  }
  if (released && !due && power === 'ON') wrong.push('released, and never off');
  if (!due && billedToMs !== undefined) {
    const ran = ranMs(intervals, billedToMs);
    if (ran !== billedMs) wrong.push(`${billedMs} ms billed to ${billedToMs} of ${ran}`);
  }
  if (chargedMs !== billedMs) wrong.push(`${billedMs} ms billed, ${chargedMs} charged`);
  return wrong;
}

function usageHolds(leases: readonly CheckedLease[], truth: readonly TrueLease[] | undefined, quiet: boolean): Verdict {
  const rule = 'What is billed is what was used: exactly where the room has said so, never more elsewhere';
  if (!truth) return said('I6', rule, true, 'the room keeps no truth to compare with');
  const used = new Map(truth.map(({ token, intervals }) => [token, intervals]));
  // While events are in transit, a bill is behind, or ahead by a power-off that was not reported yet.
  const settled = leases.filter(({ released, due }) => released && (quiet || !due));
  const broken: string[] = [];
  let exact = 0;
  for (const lease of settled) {
    // A room that got the release late switched off later; the customer does not pay for that.
    const end = lease.releasedMs ?? Number.POSITIVE_INFINITY;
    const intervals = used.get(lease.id) ?? [];
    const ms = intervals.reduce((sum, { fromMs, toMs }) => sum + Math.max(0, Math.min(toMs ?? fromMs, end) - fromMs), 0);
    if (lease.billedMs > ms || (quiet && allTold(lease, intervals.length) && lease.billedMs !== ms))
      broken.push(`${lease.id}: ${lease.billedMs} ms billed of ${ms}; ran ${inWords(intervals)}; told ${toldInWords(lease)}`);
    else if (lease.billedMs === ms) exact += 1;
  }
  return said(
    'I6',
    rule,
    broken.length === 0,
    broken.length === 0 ? `${exact} of ${settled.length} ended leases exactly` : broken.slice(0, 3).join('; '),
  );
}

/**
 * Tells whether the room has reported both ends of every interval. A machine that crashed and was switched on again ran twice in one lease.
 * If its first power-off was lost, the length of the first run is unknown, and the first run is not billed.
 */
function allTold({ told }: CheckedLease, intervals: number): boolean {
  return (['ON', 'OFF'] as const).every(
    (kind) => new Set(told.filter((event) => event.kind === kind).map(({ occurredMs }) => occurredMs)).size === intervals,
  );
}

function inWords(intervals: TrueLease['intervals']): string {
  return intervals.map(({ fromMs, toMs }) => `${fromMs} to ${toMs ?? 'now'}`).join(', ');
}

function toldInWords({ told }: CheckedLease): string {
  return told.map(({ kind, source, occurredMs }) => `${kind} at ${occurredMs} by ${source}`).join(', ');
}

async function none(id: string, rule: string, query: Knex.QueryBuilder, what: string): Promise<Verdict> {
  const n = Number((await query.count({ n: '*' }).first())?.n);
  return said(id, rule, n === 0, n === 0 ? 'none' : `${n} ${what}`);
}

function said(id: string, rule: string, holds: boolean, detail: string): Verdict {
  return { id, rule, holds, detail };
}
