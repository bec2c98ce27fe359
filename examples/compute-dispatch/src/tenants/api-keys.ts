import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { monotonicMs } from '@holdfast/core';
import type { Knex } from 'knex';
import { DispatchError } from '../errors.ts';

/** The owner of a key: a tenant, or an operator (`tenant` null), who may act for each tenant. */
export interface Caller {
  readonly keyId: string;
  readonly tenant: string | null;
}

const derive = promisify(scrypt) as (secret: string, salt: string, length: number) => Promise<Buffer>;
/** A valid key is remembered for this long, so a revoked key is refused after it at the latest. */
const knownMs = 10_000;
/** The largest number of keys that are hashed at a time: guessed keys must not take the cores from valid ones. */
const maxChecks = 8;
const form = /^hf_([A-Za-z0-9]{12})_([A-Za-z0-9_-]{32})$/;

/**
 * API keys: `hf_<id>_<secret>`. Only the scrypt hash of the secret is stored. A check takes 50 ms of a core, so a valid key is remembered
 * for a while, by a hash of the key.
 */
export class ApiKeys {
  readonly #knex: Knex;
  readonly #known = new Map<string, { readonly caller: Caller; readonly untilMs: number }>();
  readonly #checks = new Map<string, Promise<Caller | undefined>>();

  constructor(knex: Knex) {
    this.#knex = knex;
  }

  /** Creates a key. It is returned here, and cannot be read again. */
  async create(tenant: string | null, nowMs: number): Promise<string> {
    const id = randomBytes(16).toString('base64url').replaceAll(/[-_]/g, 'x').slice(0, 12);
    const key = `hf_${id}_${randomBytes(24).toString('base64url')}`;
    await this.keep(key, tenant, nowMs);
    return key;
  }

  /** Stores a key that was created elsewhere. A second call does nothing. */
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

  /** Returns the owner of a key; `undefined` if the key is not valid. @throws DispatchError while too many unknown keys are checked */
  async caller(key: string): Promise<Caller | undefined> {
    const [, id, secret] = form.exec(key) ?? [];
    if (!id || !secret) return undefined;
    const digest = createHash('sha256').update(key).digest('base64url');
    const known = this.#known.get(digest);
    if (known && known.untilMs > monotonicMs()) return known.caller;
    // Concurrent requests with the same key share one check.
    if (this.#checks.size >= maxChecks && !this.#checks.has(digest))
      throw new DispatchError('too-many-unknown-keys', 'Too many keys are being looked at, at this moment; try again in a second.');
    const check = this.#checks.get(digest) ?? this.#check(id, secret, digest).finally(() => this.#checks.delete(digest));
    this.#checks.set(digest, check);
    return check;
  }

  async #check(id: string, secret: string, digest: string): Promise<Caller | undefined> {
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
