import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { HoldfastError, type Logger, type Waker } from '@holdfast/core';
import { createNotifier, type EgressOptions, type Notifier, type NotifierWorker, standardWebhooks, type Trigger } from '@holdfast/notifier';
import type { Knex } from 'knex';
import { z } from 'zod';
import { DispatchError } from './errors.ts';
import type { SlotNews } from './news.ts';
import { byKey, inPortions } from './transact.ts';

/** The callback address of a tenant, and the key with which it verifies callbacks. */
export const callbackEndpoint = z.object({
  url: z.string(),
  key: z.string().describe('The key that signs the callbacks, by Standard Webhooks: whsec_ and base64. Keep it secret.'),
});
export type CallbackEndpoint = z.infer<typeof callbackEndpoint>;

/** One callback about a slot, with the outcome of each attempt. */
export const callbackView = z.object({
  id: z.string(),
  /** The state of the slot that it reports. */
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

/** The states that customers hear of. The states between them are internal. */
const told = new Set<string>(['GRANTED', 'RUNNING', 'RETRY_WAIT', 'ENDED', 'EXPIRED']);

/**
 * Calls tenants back about their slots: at the address and with the key of the order, or at the tenant's registered endpoint. The
 * endpoint's key is derived from the service's secret and a version, so it is not stored; an order's key is stored sealed.
 */
export class Callbacks {
  readonly notifier: Notifier;
  readonly #knex: Knex;
  readonly #secret: string;
  readonly #sealing: Buffer;
  readonly #logger: Logger;
  readonly #worker: NotifierWorker;

  constructor(options: {
    readonly knex: Knex;
    readonly secret: string;
    readonly egress: EgressOptions;
    readonly logger: Logger;
    readonly waker?: Waker;
  }) {
    this.#knex = options.knex;
    this.#secret = options.secret;
    this.#sealing = Buffer.from(hkdfSync('sha256', options.secret, '', 'compute-dispatch sign keys', 32));
    this.#logger = options.logger;
    this.notifier = createNotifier({
      knex: options.knex,
      keys: (ref) => this.#key(ref),
      sealingKeys: { k1: this.#sealing },
      sign: [standardWebhooks()],
      egress: options.egress,
      logger: options.logger,
      ...(options.waker ? { waker: options.waker } : {}),
    });
    this.#worker = this.notifier.worker({ lease: '10s' });
  }

  start(): Promise<void> {
    return this.#worker.start();
  }

  async stop(): Promise<void> {
    await this.notifier.close();
  }

  /** Registers a tenant's callback address, in place of an earlier one. */
  async register(tenant: string, url: string): Promise<CallbackEndpoint> {
    const keyRef = `${tenant}/1`;
    try {
      await this.notifier.endpoints.register({ tenant, url, keyRef });
    } catch (error) {
      throw refusal(error);
    }
    await this.#knex('dispatch_callback').insert({ tenant, url, key_ref: keyRef }).onConflict('tenant').merge(['url', 'key_ref']);
    return { url, key: this.#key(keyRef) };
  }

  async endpoint(tenant: string): Promise<CallbackEndpoint | undefined> {
    const row = await this.#knex('dispatch_callback').where({ tenant }).first();
    return row && { url: String(row.url), key: this.#key(String(row.key_ref)) };
  }

  /** Checks the address and key of an order, and seals the key. @throws DispatchError */
  async sealed(tenant: string, url: string, key: string): Promise<string> {
    try {
      await this.notifier.endpoints.register({ tenant, url });
      standardWebhooks().checkKey(key);
    } catch (error) {
      throw refusal(error);
    }
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#sealing, nonce).setAAD(Buffer.from(url));
    return Buffer.concat([nonce, cipher.update(key, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url');
  }

  /** Calls back about slots whose change commits with `trx`. */
  async tell(trx: Knex.Transaction, slots: readonly SlotNews[], atMs: number): Promise<void> {
    const telling = slots.filter(({ state }) => told.has(state));
    if (telling.length === 0) return;
    const tenants = await trx('dispatch_callback').whereIn('tenant', [...new Set(telling.map(({ tenant }) => tenant))]);
    const endpoints = new Map(tenants.map((row) => [String(row.tenant), { url: String(row.url), keyRef: String(row.key_ref) }]));
    const orders = await inPortions([...new Set(telling.map(({ batchId }) => batchId))], (ids) =>
      byKey(trx, 'dispatch_batch').whereIn('id', ids).whereNotNull('notify_url').select('id', 'notify_url', 'notify_key'),
    );
    const own = new Map(
      orders.map((row) => [
        String(row.id),
        { url: String(row.notify_url), signKey: this.#open(String(row.notify_url), String(row.notify_key)) },
      ]),
    );
    const triggers = telling.flatMap(({ applyId, batchId, tenant, state, machineId, news }): Trigger | [] => {
      const to = own.get(batchId) ?? endpoints.get(tenant);
      if (!to) return [];
      const payload = { type: 'slot.changed', applyId, batchId, state, machineId, sequence: news, at: new Date(atMs).toISOString() };
      return { tenant, subjectId: applyId, status: state, sequence: news, ...to, payload };
    });
    if (triggers.length === 0) return;
    try {
      await this.notifier.in(trx).triggerMany(triggers);
    } catch (err) {
      if (!HoldfastError.is(err, 'egress-denied')) throw err;
      // An address that is no longer allowed must not stop the slots.
      for (const trigger of triggers)
        await this.notifier
          .in(trx)
          .trigger(trigger)
          .catch((cause) => {
            if (!HoldfastError.is(cause, 'egress-denied')) throw cause;
            this.#logger.warn({ err: cause, tenant: trigger.tenant }, 'a tenant gets no callback: its address is no longer allowed');
          });
    }
  }

  /** The callbacks to a tenant about a slot. */
  async of(tenant: string, applyId: string): Promise<CallbackView[]> {
    return this.#views({ tenant, subjectId: applyId, limit: 100 });
  }

  /** The callbacks to a tenant in one state, the oldest first, each with its slot. */
  async inState(tenant: string, state: CallbackView['state'], limit: number): Promise<(CallbackView & { readonly applyId: string })[]> {
    return this.#views({ tenant, status: state, limit });
  }

  async #views(query: Parameters<ReturnType<Notifier['inspect']>['list']>[0]): Promise<(CallbackView & { readonly applyId: string })[]> {
    const rows = await this.notifier.inspect().list(query);
    return Promise.all(
      rows.map(async (row) => ({
        id: String(row.id),
        applyId: String(row.subject_id),
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

  /** Sends a callback again. Returns `false` if the tenant has no such callback. */
  async resend(tenant: string, id: string): Promise<boolean> {
    const row = /^\d{1,19}$/.test(id) && BigInt(id) < 2n ** 63n ? await this.notifier.inspect().get(id) : undefined;
    if (row?.tenant !== tenant) return false;
    return this.notifier.resend(id, { actor: tenant, reason: 'asked for over the API' });
  }

  #key(ref: string): string {
    return `whsec_${createHmac('sha256', this.#secret).update(`callback ${ref}`).digest('base64')}`;
  }

  #open(url: string, sealed: string): string {
    const bytes = Buffer.from(sealed, 'base64url');
    const decipher = createDecipheriv('aes-256-gcm', this.#sealing, bytes.subarray(0, 12)).setAAD(Buffer.from(url));
    decipher.setAuthTag(bytes.subarray(-16));
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('utf8');
  }
}

function refusal(error: unknown): unknown {
  if (HoldfastError.is(error, 'egress-denied')) return new DispatchError('callback-url-not-allowed', error.message);
  if (HoldfastError.is(error, 'key-invalid')) return new DispatchError('sign-key-not-usable', error.message);
  return error;
}
