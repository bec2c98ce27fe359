import { type Actor, type Duration, durationMs, type Wakers } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { KeyRing } from '../sign/key-ring.ts';
import type { EndpointTable, EndpointView } from './endpoint-table.ts';

/**
 * Lists and steers endpoints. An endpoint is a tenant and an origin (`https://example.com`); it is created with its first notification. A
 * change reaches the worker that serves the endpoint at once, or within half a second if no waker reaches that worker's process.
 */
export interface Endpoints {
  /**
   * Returns endpoints in the order of their ids, 50 unless `limit` (at most 1,000) says otherwise. Pass the last id as `after` for the next
   * page.
   */
  list(query?: { readonly tenant?: string; readonly after?: string; readonly limit?: number }): Promise<readonly EndpointView[]>;
  /** Returns an endpoint with its state, limits and breaker. */
  get(id: string): Promise<EndpointView | undefined>;
  /**
   * Creates the endpoint of a URL, or finds it, and returns its id. `keyRef` names the key for notifications whose trigger names none;
   * `pool` restricts the endpoint to workers that serve this pool.
   */
  register(endpoint: { readonly tenant?: string; readonly url: string; readonly keyRef?: string; readonly pool?: string }): Promise<string>;
  /**
   * Stops sending to the endpoint until it is resumed. Its notifications wait and lose no attempt. Returns `false` if it does not exist.
   */
  pause(id: string, by: Actor): Promise<boolean>;
  /** Starts sending again, with a closed breaker. Returns `false` if the endpoint does not exist. */
  resume(id: string, by: Actor): Promise<boolean>;
  /** Limits the endpoint's requests; `null` removes a limit. Returns `false` if the endpoint does not exist. */
  limit(id: string, limits: { readonly concurrency?: number | null; readonly ratePerSecond?: number | null }, by: Actor): Promise<boolean>;
  /** Replaces the endpoint's key. For `overlap` (default 24 hours), requests carry a signature under the previous key as well. */
  rotate(id: string, to: { readonly keyRef: string; readonly overlap?: Duration }, by: Actor): Promise<boolean>;
}

export interface EndpointsOptions {
  readonly table: EndpointTable;
  readonly egress: Egress;
  readonly keys: KeyRing;
  readonly wakers: Wakers;
}

/** The wake-up note that tells workers to read the settings of their endpoints again. Other notes are ids of endpoints. */
export const settingsNote = 'settings';

/** Makes the operators' calls over the table of endpoints: they check their arguments and notify workers of a change. */
export function endpointsOf({ table, egress, keys, wakers }: EndpointsOptions): Endpoints {
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
      if (keyRef !== undefined) await keys.of(keyRef);
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
      await keys.of(keyRef);
      return changed(table.rotate(id, keyRef, durationMs(overlap ?? '24h', 'overlap'), by));
    },
  };
}
