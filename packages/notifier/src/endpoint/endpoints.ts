import { type Actor, type Duration, durationMs, type Wakers } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import { checkKeys, type KeySource, keysOf } from '../sign/key-ring.ts';
import type { Signer } from '../sign/signer.ts';
import type { EndpointTable, EndpointView } from './endpoint-table.ts';

/**
 * Steers endpoints. Workers that serve one hear of a change at once, or within half a second. Each is a tenant and an origin
 * (`https://example.com`), made with its first notification.
 */
export interface Endpoints {
  /** Endpoints in the order of their ids. */
  list(query?: { readonly tenant?: string; readonly after?: string; readonly limit?: number }): Promise<readonly EndpointView[]>;
  /** One endpoint, with its state, limits and figures. */
  get(id: string): Promise<EndpointView | undefined>;
  /** Makes the endpoint of a URL, or finds it. With `keyRef`, that is what its notifications are signed with unless they say otherwise. */
  register(endpoint: { readonly tenant?: string; readonly url: string; readonly keyRef?: string; readonly pool?: string }): Promise<string>;
  /** Sends nothing to it until it is resumed; notifications wait. Returns whether it is there. */
  pause(id: string, by: Actor): Promise<boolean>;
  /** Sends again. Returns whether it is there. */
  resume(id: string, by: Actor): Promise<boolean>;
  /** Limits its requests; `null` takes a limit away. Returns whether it is there. */
  limit(id: string, limits: { readonly concurrency?: number | null; readonly ratePerSecond?: number | null }, by: Actor): Promise<boolean>;
  /** Signs with another key from now on, and for `overlap` (default 24 hours) with the one before as well. */
  rotate(id: string, to: { readonly keyRef: string; readonly overlap?: Duration }, by: Actor): Promise<boolean>;
}

export interface EndpointsOptions {
  readonly table: EndpointTable;
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeySource | undefined;
  readonly wakers: Wakers;
}

/** What is told to workers, besides ids of endpoints that were triggered: that operators have changed something. */
export const settingsNote = 'settings';

/** The operators' calls over the table of endpoints: checks what they are given, and tells workers of the change. */
export function endpointsOf({ table, egress, signers, keys, wakers }: EndpointsOptions): Endpoints {
  const changed = async (done: Promise<boolean>): Promise<boolean> => {
    const found = await done;
    if (found) wakers.wake(settingsNote);
    return found;
  };
  return {
    list: (query) => table.list(query),
    get: (id) => table.get(id),
    register: async ({ tenant = '', url, keyRef, pool }) => {
      const { origin } = egress.check(url);
      if (keyRef !== undefined) checkKeys(signers, await keysOf(keys, keyRef));
      return table.register(tenant, origin, { keyRef, pool });
    },
    pause: (id, by) => changed(table.pause(id, by)),
    resume: async (id, by) => {
      const found = await table.resume(id, by);
      if (found) wakers.wake();
      return found;
    },
    limit: (id, limits, by) => changed(table.limit(id, limits, by)),
    rotate: async (id, { keyRef, overlap }, by) => {
      checkKeys(signers, await keysOf(keys, keyRef));
      return changed(table.rotate(id, keyRef, durationMs(overlap ?? '24h', 'overlap'), by));
    },
  };
}
