import { createHmac } from 'node:crypto';
import { HoldfastError, type Logger } from '@holdfast/core';
import { createNotifier, type EgressOptions, type Notifier, type NotifierWorker, standardWebhooks } from '@holdfast/notifier';
import type { Knex } from 'knex';
import { z } from 'zod';
import { Problem } from './problem.ts';

/** Where a tenant hears of its slots, and the key that it verifies with. */
export const callbackEndpoint = z.object({
  url: z.string(),
  /** Standard Webhooks: keep it secret. */
  key: z.string(),
});
export type CallbackEndpoint = z.infer<typeof callbackEndpoint>;

/** One callback of a slot, with what came of each attempt. */
export const callbackView = z.object({
  id: z.string(),
  /** What it says: GRANTED, EXPIRED, POWER_ON, POWER_OFF. */
  says: z.string(),
  state: z.enum(['PENDING', 'DELIVERED', 'EXHAUSTED', 'GONE', 'CANCELLED']),
  nextAt: z.string().nullable(),
  attempts: z.array(
    z.object({
      number: z.number(),
      trigger: z.string(),
      outcome: z.string(),
      at: z.string(),
      durationMs: z.number().nullable(),
      httpStatus: z.number().nullable(),
      errorCode: z.string().nullable(),
      snippet: z.string().nullable(),
    }),
  ),
});
export type CallbackView = z.infer<typeof callbackView>;

/** A slot that changed. */
export interface SlotNews {
  readonly applyId: string;
  readonly batchId: string;
  readonly says: 'GRANTED' | 'EXPIRED' | 'POWER_ON' | 'POWER_OFF';
  /** Which time it says so: a machine may be switched on twice. */
  readonly sequence?: number;
  readonly machineId: string | null;
  readonly atMs: number;
}

/**
 * Tells tenants what becomes of their slots. Each registers one endpoint. Its key is derived from the service's secret and a version, so
 * that no key is stored; a rotation is a new version.
 */
export class Callbacks {
  readonly notifier: Notifier;
  readonly #knex: Knex;
  readonly #secret: string;
  readonly #logger: Logger;
  readonly #worker: NotifierWorker;

  constructor(options: { readonly knex: Knex; readonly secret: string; readonly egress: EgressOptions; readonly logger: Logger }) {
    this.#knex = options.knex;
    this.#secret = options.secret;
    this.#logger = options.logger;
    this.notifier = createNotifier({
      knex: options.knex,
      keys: (ref) => this.#key(ref),
      sign: [standardWebhooks()],
      egress: options.egress,
      logger: options.logger,
    });
    this.#worker = this.notifier.worker({ lease: '10s' });
  }

  start(): Promise<void> {
    return this.#worker.start();
  }

  async stop(): Promise<void> {
    await this.notifier.close();
  }

  /** Registers where a tenant is called back, in place of what was before. */
  async register(tenant: string, url: string): Promise<CallbackEndpoint> {
    const keyRef = `${tenant}/1`;
    try {
      await this.notifier.endpoints.register({ tenant, url, keyRef });
    } catch (error) {
      if (!HoldfastError.is(error, 'egress-denied')) throw error;
      throw new Problem(422, 'callback-url-not-allowed', 'Callback address not allowed', error.message);
    }
    await this.#knex('dispatch_callback').insert({ tenant, url, key_ref: keyRef }).onConflict('tenant').merge(['url', 'key_ref']);
    return { url, key: this.#key(keyRef) };
  }

  async endpoint(tenant: string): Promise<CallbackEndpoint | undefined> {
    const row = await this.#knex('dispatch_callback').where({ tenant }).first();
    return row && { url: String(row.url), key: this.#key(String(row.key_ref)) };
  }

  /** Tells a tenant, if it wants to be told, of slots whose change commits with `trx`. */
  async tell(trx: Knex.Transaction, tenant: string, news: readonly SlotNews[]): Promise<void> {
    const row = await trx('dispatch_callback').where({ tenant }).first();
    if (!row) return;
    const triggers = this.notifier.in(trx);
    for (const { applyId, batchId, says, sequence, machineId, atMs } of news) {
      try {
        await triggers.trigger({
          tenant,
          subjectId: applyId,
          status: says,
          ...(sequence === undefined ? {} : { sequence }),
          url: String(row.url),
          keyRef: String(row.key_ref),
          payload: { type: 'slot.changed', applyId, batchId, state: says, machineId, at: new Date(atMs).toISOString() },
        });
      } catch (err) {
        // An address that was allowed once and is not any more must not hold the slots up.
        if (!HoldfastError.is(err, 'egress-denied')) throw err;
        this.#logger.warn({ err, tenant, applyId }, 'a tenant is not told: its callback address is not allowed any more');
        return;
      }
    }
  }

  /** What a tenant was told of a slot. */
  async of(tenant: string, applyId: string): Promise<CallbackView[]> {
    const rows = await this.notifier.inspect().list({ tenant, subjectId: applyId, limit: 100 });
    return Promise.all(
      rows.map(async (row) => ({
        id: String(row.id),
        says: String(row.status),
        state: row.state as CallbackView['state'],
        nextAt: row.due_at === null ? null : new Date(Number(row.due_at)).toISOString(),
        attempts: (await this.notifier.attempts(String(row.id))).map(
          ({ number, trigger, outcome, startedAt, durationMs, httpStatus, errorCode, snippet }) => ({
            number,
            trigger,
            outcome,
            at: new Date(startedAt).toISOString(),
            durationMs,
            httpStatus,
            errorCode,
            snippet,
          }),
        ),
      })),
    );
  }

  /** Sends one of them again. Returns whether it is the tenant's. */
  async resend(tenant: string, id: string): Promise<boolean> {
    const row = /^\d{1,19}$/.test(id) ? await this.notifier.inspect().get(id) : undefined;
    if (row?.tenant !== tenant) return false;
    return this.notifier.resend(id, { actor: tenant, reason: 'asked for over the API' });
  }

  #key(ref: string): string {
    return `whsec_${createHmac('sha256', this.#secret).update(`callback ${ref}`).digest('base64')}`;
  }
}
