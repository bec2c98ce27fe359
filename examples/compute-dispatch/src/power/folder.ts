import type { Database } from '@holdfast/core';
import type { Knex } from 'knex';
import { type Announcers, announce } from '../announce.ts';
import { chargeLines } from '../billing/charge-lines.ts';
import type { AssetNews, SlotNews } from '../news.ts';
import type { Tasks } from '../tasks.ts';
import { releaseQuota } from '../tenants/release-quota.ts';
import type { SlotState } from '../topics.ts';
import { byKey, groupedBy, inPortions, insertMany, locked, transact, updateMany } from '../transact.ts';
import type { PowerKind, PowerSource, StoredPowerEvent } from './event.ts';
import { type Folded, fold } from './fold.ts';
import { provisionalOff } from './provisional.ts';
import { storeEvents } from './store-events.ts';

export interface FolderParts extends Announcers {
  readonly knex: Knex;
  readonly database: Database;
  readonly tasks: Tasks;
  /** The running time that one line of a running machine's bill covers, in ms. */
  readonly billingMs: number;
}

const perFold = 500;
/** A failed power-off is retried after this time. */
const offAgainMs = 2_000;

/** The changes of a lease and its slot. */
interface Folding {
  readonly lease: Record<string, unknown>;
  readonly slot: Record<string, unknown>;
  readonly folded: Folded;
  state: SlotState;
  flag: string | null;
  /** The reason for the end of the lease, if it ends. */
  ends: boolean;
  news: SlotState | undefined;
}

/**
 * Folds the stored events of leases into their consequences: the slot's state, lines of its bill, and announcements. All of them commit
 * together, under the lease's lock. Leases and slots that another process has locked are skipped, so a fold never waits.
 */
export class Folder {
  readonly #parts: FolderParts;
  readonly #prices = new Map<string, number>();

  constructor(parts: FolderParts) {
    this.#parts = parts;
  }

  /** Returns the number of folded leases. */
  async fold(): Promise<number> {
    const nowMs = await this.#parts.database.now();
    return transact(this.#parts.knex, (trx) => this.#fold(trx, nowMs));
  }

  async #fold(trx: Knex.Transaction, nowMs: number): Promise<number> {
    const due = await locked(
      trx,
      trx('dispatch_lease').where('fold_due_ms', '<=', nowMs).orderBy('fold_due_ms').limit(perFold),
      'skip locked',
    );
    if (due.length === 0) return 0;
    const slots = new Map(
      (
        await inPortions(
          due.map((lease) => String(lease.apply_id)),
          (some) => locked(trx, byKey(trx, 'dispatch_slot').whereIn('apply_id', some).orderBy('apply_id'), 'skip locked'),
        )
      ).map((slot) => [String(slot.apply_id), slot]),
    );
    const leases = due.filter(({ apply_id }) => slots.has(String(apply_id)));
    const events = groupedBy(
      await inPortions(
        leases.map(({ id }) => String(id)),
        (some) =>
          trx('dispatch_power_event').whereIn('lease_id', some).select('id', 'lease_id', 'kind', 'source', 'occurred_ms', 'sequence'),
      ),
      ({ lease_id }) => String(lease_id),
    );
    await this.#readPrices(trx, leases);
    const all: Folding[] = [];
    for (const lease of leases) {
      const own = (events.get(String(lease.id)) ?? []).map(eventOf);
      const endedMs = lease.released_ms === null ? undefined : Number(lease.released_ms);
      let folded = fold(own, endedMs);
      // The lease has ended and no power-off was reported: without this, it would be billed for ever.
      if (lease.state === 'RELEASED' && folded.power === 'ON') {
        const guess = await provisionalOff(trx, lease);
        await storeEvents(trx, [guess], 'provisional', nowMs);
        folded = fold([...own, { ...guess, id: guess.eventId, source: 'provisional', occurredMs: guess.occurredAtMs }], endedMs);
      }
      all.push(follow({ lease, slot: slots.get(String(lease.apply_id)) as Record<string, unknown>, folded }));
    }
    await this.#bill(trx, all, nowMs);
    await this.#apply(trx, all, nowMs);
    return leases.length;
  }

  /** Writes lines of bills, and how far each lease is billed by them. */
  async #bill(trx: Knex.Transaction, all: readonly Folding[], nowMs: number): Promise<void> {
    const charges: Record<string, unknown>[] = [];
    const updates = all.map(({ lease, folded, ends }) => {
      const before = {
        toMs: lease.billed_to_ms === null ? undefined : Number(lease.billed_to_ms),
        ms: Number(lease.billed_ms),
        lines: Number(lease.charges),
      };
      const cents = this.#prices.get(`${lease.package_id} ${lease.price_version}`) ?? 0;
      const { lines, billed, dueMs } = chargeLines(before, folded, nowMs, this.#parts.billingMs, cents);
      for (const line of lines)
        charges.push({
          id: `${lease.id}-${line.number}`,
          lease_id: lease.id,
          apply_id: lease.apply_id,
          tenant: lease.tenant,
          machine_id: lease.machine_id,
          package_id: lease.package_id,
          price_version: lease.price_version,
          kind: line.kind,
          from_ms: line.fromMs,
          to_ms: line.toMs,
          ms: line.ms,
          amount_cents: line.amountCents,
          created_ms: nowMs,
        });
      return {
        lease: String(lease.id),
        to_power: folded.power ?? null,
        to_state: ends && lease.state === 'ACTIVE' ? 'RELEASING' : String(lease.state),
        to_releasing: ends && lease.state === 'ACTIVE' ? nowMs : lease.releasing_ms === null ? null : Number(lease.releasing_ms),
        to_due: dueMs ?? null,
        to_billed: billed.toMs ?? null,
        to_ms: billed.ms,
        to_lines: billed.lines,
        to_failures: folded.offFailures,
      };
    });
    await insertMany(trx, 'dispatch_charge', charges);
    await updateMany(this.#parts.database, trx, {
      table: 'dispatch_lease',
      types: leaseTypes,
      rows: updates,
      set: {
        power: 'u.to_power',
        state: 'u.to_state',
        releasing_ms: 'u.to_releasing',
        fold_due_ms: 'u.to_due',
        billed_to_ms: 'u.to_billed',
        billed_ms: 'u.to_ms',
        charges: 'u.to_lines',
        off_failures: 'u.to_failures',
      },
      on: 't.id = u.lease',
    });
  }

  async #apply(trx: Knex.Transaction, all: readonly Folding[], nowMs: number): Promise<void> {
    const { tasks } = this.#parts;
    const changed = all.filter(({ slot, state, flag }) => state !== slot.state || flag !== slot.flag);
    await updateMany(this.#parts.database, trx, {
      table: 'dispatch_slot',
      types: slotTypes,
      rows: changed.map(({ slot, state, flag, news }) => ({
        apply: String(slot.apply_id),
        to_state: state,
        to_flag: flag,
        to_news: Number(slot.news) + (news ? 1 : 0),
        to_lease: state === 'RETRY_WAIT' ? null : String(slot.lease_id),
        to_machine: state === 'RETRY_WAIT' ? null : String(slot.machine_id),
        to_retry: state === 'RETRY_WAIT' ? nowMs + 1_000 : null,
      })),
      set: {
        state: 'u.to_state',
        flag: 'u.to_flag',
        news: 'u.to_news',
        lease_id: 'u.to_lease',
        machine_id: 'u.to_machine',
        retry_ms: 'u.to_retry',
        changed_ms: String(nowMs),
      },
      on: 't.apply_id = u.apply',
    });
    const ending = all.filter(({ lease, ends }) => ends && lease.state === 'ACTIVE').map(({ lease }) => String(lease.id));
    if (ending.length > 0) await tasks.release(trx, ending);
    // The lease was released before its last event was folded, so the slot was still open when the lease was counted out of its batch.
    const late = all.filter(({ lease, news }) => news === 'ENDED' && lease.state !== 'ACTIVE').map(({ lease }) => String(lease.batch_id));
    if (late.length > 0) await tasks.finish(trx, [...new Set(late)]);
    const offAgain = all.filter(
      ({ lease, slot, folded }) => folded.offFailures > Number(lease.off_failures) && folded.power === 'ON' && slot.desired === 'OFF',
    );
    if (offAgain.length > 0)
      await tasks.power(
        trx,
        offAgain.map(({ lease }) => String(lease.id)),
        'OFF',
        offAgainMs,
      );
    const told = all.flatMap(({ slot, lease, news }): SlotNews[] =>
      news
        ? [
            {
              applyId: String(slot.apply_id),
              batchId: String(slot.batch_id),
              tenant: String(slot.tenant),
              state: news,
              machineId: String(lease.machine_id),
              news: Number(slot.news) + 1,
            },
          ]
        : [],
    );
    await releaseQuota(trx, told);
    const assets = all.flatMap(({ lease, folded }): AssetNews[] => {
      if ((folded.power ?? null) === lease.power) return [];
      return [
        { machineId: String(lease.machine_id), applyId: String(lease.apply_id), epoch: Number(lease.epoch), active: folded.power === 'ON' },
      ];
    });
    await announce(trx, this.#parts, { slots: told, assets }, nowMs);
  }

  async #readPrices(trx: Knex.Transaction, leases: readonly Record<string, unknown>[]): Promise<void> {
    // A version never changes.
    if (leases.every((lease) => this.#prices.has(`${lease.package_id} ${lease.price_version}`))) return;
    for (const row of await trx('dispatch_price')) this.#prices.set(`${row.package_id} ${row.version}`, Number(row.cents_per_hour));
  }
}

function eventOf(row: Record<string, unknown>): StoredPowerEvent {
  return {
    id: String(row.id),
    kind: row.kind as PowerKind,
    source: row.source as PowerSource,
    occurredMs: Number(row.occurred_ms),
    sequence: Number(row.sequence),
  };
}

const leaseTypes = {
  lease: 'text',
  to_power: 'text',
  to_state: 'text',
  to_releasing: 'integer',
  to_due: 'integer',
  to_billed: 'integer',
  to_ms: 'integer',
  to_lines: 'integer',
  to_failures: 'integer',
} as const;
const slotTypes = {
  apply: 'text',
  to_state: 'text',
  to_flag: 'text',
  to_news: 'integer',
  to_lease: 'text',
  to_machine: 'text',
  to_retry: 'integer',
} as const;

/** The change of a slot by its lease's power. A slot that has another lease by now, or none, does not change. */
function follow({ lease, slot, folded }: Pick<Folding, 'lease' | 'slot' | 'folded'>): Folding {
  const result: Folding = {
    lease,
    slot,
    folded,
    state: slot.state as SlotState,
    flag: slot.flag as string | null,
    ends: false,
    news: undefined,
  };
  if (slot.lease_id !== lease.id) return result;
  const up = slot.state === 'RUNNING';
  const coming = slot.state === 'GRANTED' || slot.state === 'STARTING';
  if (folded.power === 'ON' && coming) result.state = result.news = 'RUNNING';
  else if (folded.power === 'OFF' && (coming || up)) {
    result.state = result.news = 'ENDED';
    result.ends = true;
    result.flag = null;
  } else if (folded.failedToStart && coming) {
    result.state = result.news = 'RETRY_WAIT';
    result.ends = true;
  }
  if (up && folded.offFailures > 0 && result.state === 'RUNNING') result.flag = 'power-off-failed';
  return result;
}
