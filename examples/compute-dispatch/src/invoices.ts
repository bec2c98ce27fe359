import type { Message, Publisher } from '@holdfast/broker';
import { HoldfastError, type Logger, migrate } from '@holdfast/core';
import {
  createTopology,
  defineScan,
  parseDatabases,
  type Scan,
  type ScanProgress,
  type ScanUnit,
  type Shard,
  type Topology,
} from '@holdfast/sharded-scan';
import type { Knex } from 'knex';
import { z } from 'zod';
import { DispatchError } from './errors.ts';
import { invoiceSchema, tablesPerDatabase } from './invoice-schema.ts';
import { type usageInvoice, usageTopic } from './topics.ts';
import { byKey, groupedBy } from './transact.ts';

/** The process that was to send an unsent invoice of this age is considered dead. */
const unsentAfter = '30s';

/** The values of `mq_state`. */
const state = { new: 0, sent: 1, failed: 2 } as const;

interface Invoice extends Record<string, unknown> {
  readonly id: string;
  readonly tenant: string;
  readonly apply_id: string;
  readonly machine_id: string;
  readonly package_id: string;
  /** A string if a scan has read it. */
  readonly from_ms: number | string;
  readonly to_ms: number | string;
  readonly kind: 'usage' | 'adjustment';
  readonly ms: number | string;
  readonly amount_cents: number;
  readonly price_version: number;
}

export const invoiceView = z.object({
  id: z.string(),
  machineId: z.string(),
  /** `adjustment` corrects an earlier bill. */
  kind: z.enum(['usage', 'adjustment']),
  from: z.string(),
  to: z.string(),
  /** The running time of the machine; negative if too much was billed before. */
  ms: z.number(),
  amountCents: z.number(),
  priceVersion: z.number(),
  /** `sent`: the billing system has the invoice; `failed`: it refused the invoice. */
  state: z.enum(['new', 'sent', 'failed']),
  /** The database and table of the invoice. */
  shard: z.string(),
});
export type InvoiceView = z.infer<typeof invoiceView>;

export const scanView = z.object({
  pass: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
  units: z.array(
    z.object({
      unit: z.string(),
      state: z.enum(['todo', 'running', 'done', 'failed', 'cancelled']),
      scanned: z.number(),
      matched: z.number(),
      handled: z.number(),
      failed: z.number(),
      remaining: z.number().nullable(),
      error: z.string().nullable(),
    }),
  ),
});
export type ScanView = z.infer<typeof scanView>;

/**
 * Invoices are stored in 2 x 4 tables, sharded by their slot. Each is sent to the billing system after its transaction has committed. A
 * crash or an unavailable broker can prevent that; a scan finds unsent invoices by their `mq_state` and sends them again.
 */
export class Invoices {
  readonly scan: Scan<Invoice>;
  /** The databases of the last scan. */
  parameter = '1,2';
  readonly #topology: Topology;
  readonly #publisher: Publisher;
  readonly #lose: number;
  readonly #state: Knex;
  readonly #logger: Logger;
  readonly #passes = new Map<Promise<unknown>, AbortController>();

  private constructor(options: InvoicesOptions) {
    this.#publisher = options.publisher;
    this.#lose = options.losePercent / 100;
    this.#logger = options.logger;
    this.#state = options.state;
    const [one, two] = options.databases;
    this.#topology = createTopology({ databases: { '01': one, '02': two }, tables: tablesPerDatabase });
    this.scan = defineScan<Invoice>({
      name: 'invoice-mq',
      topology: this.#topology,
      table: 'invoice',
      key: ['id'],
      where: (query, now) =>
        query
          .where('mq_state', state.failed)
          .orWhere((unsent) => unsent.where('mq_state', state.new).where('created_ms', '<', now.minus(unsentAfter).getTime())),
      batch: 200,
      process: (rows, unit) => this.#sendAgain(rows, unit),
      state: options.state,
      logger: options.logger,
    });
  }

  /** Migrates the tables. */
  static async open(options: InvoicesOptions): Promise<Invoices> {
    await migrateInvoices(options.databases);
    return new Invoices(options);
  }

  /**
   * Writes the invoices of charges that have none, each once however often this is called: a charge's line is the key of its invoice. Then
   * sends them; the billing system recognises an invoice that comes twice. The charges are in another database and are marked last: after a
   * crash between the two, the same invoices are written again, which changes nothing. Returns their number.
   */
  async draw(nowMs: number): Promise<number> {
    const charges = await this.#state('dispatch_charge').where({ invoiced: 0 }).orderBy('created_ms').limit(500);
    for (const [shard, some] of groupedBy(charges, (charge) => this.#topology.forKey(String(charge.apply_id)))) {
      const rows = some.map(toRow);
      await shard.transaction((trx) =>
        shard
          .query('invoice', trx)
          .insert(rows.map((row) => ({ ...row, mq_state: state.new, created_ms: nowMs })))
          .onConflict('id')
          .ignore(),
      );
      // Committed: from here on the scan finds unsent invoices.
      await byKey(this.#state, 'dispatch_charge')
        .whereIn(
          'id',
          rows.map(({ id }) => id),
        )
        .update({ invoiced: 1 });
      await this.#send(
        rows.filter(() => Math.random() >= this.#lose),
        shard,
      );
    }
    return charges.length;
  }

  /**
   * Sends unsent invoices of the databases that the parameter names, as in `'1,2'`. The timer, the page and an xxl-job admin call it.
   * `log` gets the result of each table.
   * @throws Error unless every table was scanned and every invoice handled
   */
  async sendUnsent(parameter: string, signal?: AbortSignal, log: (line: string) => void = () => undefined): Promise<void> {
    parseDatabases(parameter, this.#topology.databases);
    this.parameter = parameter;
    const { units, exitCode } = await this.scan.run({ only: parameter, ...(signal ? { signal } : {}) });
    for (const { unit, state, examined, matched, failed, error } of units)
      log(`${unit} ${state}: ${examined} scanned, ${matched} not sent, ${failed} failed${error ? `: ${error.message}` : ''}`);
    // Stopped: the next scan continues where this one was.
    if (exitCode === 0 || signal?.aborted) return;
    const left = units.filter(({ state, failed }) => state !== 'done' || failed > 0).map(({ unit }) => unit);
    throw new Error(`Not all invoices were scanned: ${left.join(', ')}.`);
  }

  /** Begins the same scan without waiting for it. @throws DispatchError for a parameter that names no database */
  async beginScan(parameter: string): Promise<void> {
    try {
      parseDatabases(parameter, this.#topology.databases);
    } catch (error) {
      if (!HoldfastError.is(error, 'invalid-argument')) throw error;
      throw new DispatchError('unknown-databases', error.message);
    }
    const stop = new AbortController();
    const pass = this.sendUnsent(parameter, stop.signal)
      .catch((err) => this.#logger.error({ err }, 'invoices were not scanned'))
      .finally(() => this.#passes.delete(pass));
    this.#passes.set(pass, stop);
  }

  async progress(): Promise<ScanView> {
    const { pass, startedAt, endedAt, units }: ScanProgress = await this.scan.progress({ only: this.parameter });
    return {
      pass,
      startedAt: startedAt?.toISOString() ?? null,
      endedAt: endedAt?.toISOString() ?? null,
      units: units.map(({ unit, state, examined, matched, handled, failed, remaining, error }) => ({
        unit,
        state,
        scanned: examined,
        matched,
        handled,
        failed,
        remaining: remaining ?? null,
        error: error?.message ?? null,
      })),
    };
  }

  /** Counts all invoices, and the unsent ones. */
  async count(): Promise<{ readonly drawn: number; readonly unsent: number }> {
    const counts = await Promise.all(
      this.#topology.shards.map((shard) => shard.query('invoice').select('mq_state').count({ n: '*' }).groupBy('mq_state')),
    );
    let [drawn, unsent] = [0, 0];
    for (const { mq_state, n } of counts.flat()) {
      drawn += Number(n);
      if (Number(mq_state) !== state.sent) unsent += Number(n);
    }
    return { drawn, unsent };
  }

  /** The invoices of one slot, from the one table that can have them. */
  async of(applyId: string): Promise<InvoiceView[]> {
    const shard = this.#topology.forKey(applyId);
    const rows = await shard.query('invoice').where({ apply_id: applyId }).orderBy(['to_ms', 'id']).limit(1_000);
    const names = Object.keys(state) as (keyof typeof state)[];
    return rows.map((row: Invoice & { readonly mq_state: number }) => ({
      id: row.id,
      machineId: row.machine_id,
      kind: row.kind,
      from: new Date(Number(row.from_ms)).toISOString(),
      to: new Date(Number(row.to_ms)).toISOString(),
      ms: Number(row.ms),
      amountCents: Number(row.amount_cents),
      priceVersion: Number(row.price_version),
      state: names.find((name) => state[name] === Number(row.mq_state)) ?? 'new',
      shard: shard.name,
    }));
  }

  async stop(): Promise<void> {
    for (const stop of this.#passes.values()) stop.abort(new Error('the service stops'));
    await Promise.all(this.#passes.keys());
    await this.scan.close();
  }

  async #send(rows: readonly Invoice[], shard: Shard): Promise<void> {
    if (rows.length === 0) return;
    try {
      const sent = await this.#publish(rows);
      for (const ok of [true, false]) {
        const ids = rows.filter((_, i) => sent[i] === ok).map(({ id }) => id);
        if (ids.length > 0)
          await shard
            .query('invoice')
            .whereIn('id', ids)
            .whereIn('mq_state', [state.new, state.failed])
            .update({ mq_state: ok ? state.sent : state.failed });
      }
    } catch (err) {
      this.#logger.warn({ err, shard: shard.name }, 'invoices were not sent; the scan sends them');
    }
  }

  async #sendAgain(rows: readonly Invoice[], unit: ScanUnit<Invoice>): Promise<void> {
    const sent = await this.#publish(rows);
    for (const ok of [true, false])
      await unit.update(
        rows.filter((_, i) => sent[i] === ok),
        { mq_state: ok ? state.sent : state.failed },
        { where: { mq_state: [state.new, state.failed] } },
      );
  }

  /** Publishes invoices. Returns for each whether the broker has accepted it. */
  async #publish(rows: readonly Invoice[]): Promise<readonly boolean[]> {
    const results = await this.#publisher.publish(rows.map(toMessage));
    return results.map(({ outcome }) => outcome === 'acked');
  }
}

export async function migrateInvoices(databases: readonly Knex[]): Promise<void> {
  for (const knex of databases) await migrate(knex, [invoiceSchema]);
}

export interface InvoicesOptions {
  readonly databases: readonly [Knex, Knex];
  /** The database of the charges, in which the scan keeps its leases and checkpoints too. */
  readonly state: Knex;
  readonly publisher: Publisher;
  /** The percentage of invoices that are not sent when they are written, as after a crash behind COMMIT. For the demonstration. */
  readonly losePercent: number;
  readonly logger: Logger;
}

function toRow(charge: Record<string, unknown>): Invoice {
  return {
    id: String(charge.id),
    tenant: String(charge.tenant),
    apply_id: String(charge.apply_id),
    machine_id: String(charge.machine_id),
    package_id: String(charge.package_id),
    kind: charge.kind as Invoice['kind'],
    from_ms: Number(charge.from_ms),
    to_ms: Number(charge.to_ms),
    ms: Number(charge.ms),
    price_version: Number(charge.price_version),
    amount_cents: Number(charge.amount_cents),
  };
}

/** The id of the message is the invoice's, so an inbox recognises a second copy. */
function toMessage(row: Invoice): Message {
  const body: z.infer<typeof usageInvoice> = {
    invoiceId: row.id,
    kind: row.kind,
    tenant: row.tenant,
    applyId: row.apply_id,
    machineId: row.machine_id,
    packageId: row.package_id,
    fromMs: Number(row.from_ms),
    toMs: Number(row.to_ms),
    ms: Number(row.ms),
    priceVersion: Number(row.price_version),
    amountCents: Number(row.amount_cents),
  };
  return {
    id: `invoice-${row.id}`,
    topic: usageTopic,
    key: row.apply_id,
    headers: {},
    body: Buffer.from(JSON.stringify(body)),
    contentType: 'application/json',
  };
}
