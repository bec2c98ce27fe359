import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { monotonicMs } from '@holdfast/core';
import type { Knex } from 'knex';
import { DispatchError } from '../errors.ts';

/** Who asks: a tenant, or an operator (`tenant` null), who may act for each. */
export interface Caller {
  readonly keyId: string;
  readonly tenant: string | null;
}

const derive = promisify(scrypt) as (secret: string, salt: string, length: number) => Promise<Buffer>;
/** A key that was shown rightly is known for this long, so a revoked one is refused after it at the latest. */
const knownMs = 10_000;
/** So many are hashed at a time: guessing must not take the cores from those who know. */
const mostLooking = 8;
const form = /^hf_([A-Za-z0-9]{12})_([A-Za-z0-9_-]{32})$/;

/**
 * API keys: `hf_<id>_<secret>`. Of the secret only its scrypt hash is stored. That takes 50 ms of a core, so who was right is
 * remembered for a while, by a hash of the key.
 */
export class ApiKeys {
  readonly #knex: Knex;
  readonly #known = new Map<string, { readonly caller: Caller; readonly untilMs: number }>();
  readonly #looking = new Map<string, Promise<Caller | undefined>>();

  constructor(knex: Knex) {
    this.#knex = knex;
  }

  /** Makes a key. It is shown once: here. */
  async create(tenant: string | null, nowMs: number): Promise<string> {
    const id = randomBytes(16).toString('base64url').replaceAll(/[-_]/g, 'x').slice(0, 12);
    const key = `hf_${id}_${randomBytes(24).toString('base64url')}`;
    await this.keep(key, tenant, nowMs);
    return key;
  }

  /** Keeps a key that was made elsewhere. Again: nothing. */
  async keep(key: string, tenant: string | null, nowMs: number): Promise<void> {
    const [, id, secret] = form.exec(key) ?? [];
    if (!id || !secret) throw new Error('An API key looks like hf_<12 letters or digits>_<32 letters, digits, - or _>.');
    if (await this.#knex('dispatch_api_key').where({ id }).first()) return;
    const salt = randomBytes(16).toString('base64url');
    const hash = (await derive(secret, salt, 32)).toString('base64url');
    await this.#knex('dispatch_api_key').insert({ id, tenant, salt, hash, created_ms: nowMs }).onConflict('id').ignore();
  }

  async revoke(id: string, tenant: string, nowMs: number): Promise<boolean> {
    return (await this.#knex('dispatch_api_key').where({ id, tenant }).whereNull('revoked_ms').update({ revoked_ms: nowMs })) > 0;
  }

  async list(tenant: string): Promise<{ id: string; createdAt: string; revokedAt: string | null }[]> {
    const rows = await this.#knex('dispatch_api_key').where({ tenant }).orderBy('created_ms').limit(1_000);
    const time = (ms: unknown): string | null => (ms === null ? null : new Date(Number(ms)).toISOString());
    return rows.map((row) => ({ id: String(row.id), createdAt: time(row.created_ms) ?? '', revokedAt: time(row.revoked_ms) }));
  }

  /** Whose key it is; undefined: nobody's. */
  async caller(key: string): Promise<Caller | undefined> {
    const [, id, secret] = form.exec(key) ?? [];
    if (!id || !secret) return undefined;
    const digest = createHash('sha256').update(key).digest('base64url');
    const known = this.#known.get(digest);
    if (known && known.untilMs > monotonicMs()) return known.caller;
    // Requests with one key that come at once ask once.
    if (this.#looking.size >= mostLooking && !this.#looking.has(digest))
      throw new DispatchError('too-many-unknown-keys', 'Too many keys are being looked at, at this moment; try again in a second.');
    const looking = this.#looking.get(digest) ?? this.#look(id, secret, digest).finally(() => this.#looking.delete(digest));
    this.#looking.set(digest, looking);
    return looking;
  }

  async #look(id: string, secret: string, digest: string): Promise<Caller | undefined> {
    const row = await this.#knex('dispatch_api_key').where({ id }).whereNull('revoked_ms').first();
    if (!row) return undefined;
    const hash = Buffer.from(String(row.hash), 'base64url');
    if (!timingSafeEqual(await derive(secret, String(row.salt), hash.length), hash)) return undefined;
    const caller: Caller = { keyId: id, tenant: row.tenant === null ? null : String(row.tenant) };
    if (this.#known.size > 10_000) this.#known.clear();
    this.#known.set(digest, { caller, untilMs: monotonicMs() + knownMs });
    return caller;
  }
}
