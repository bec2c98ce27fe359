import { type Actor, type Duration, durationMs, InvalidArgumentError, keyText, shownValue, steps, type Wakers } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { KeyRing } from '../sign/key-ring.ts';
import { headersText, tenantOf } from '../trigger/new-notification.ts';
import type { EndpointTable, EndpointView } from './endpoint-table.ts';
import type { SubscriberSettings } from './subscription-table.ts';

/** The settings of an endpoint that has a URL of its own. */
export interface SubscriberOptions {
  /** The types of event that it hears of: values of an event's `status`; `'*'` stands for all. A change replaces the whole list. */
  readonly events?: readonly string[];
  /** Reference of its key, for events that name none. */
  readonly keyRef?: string;
  /** Restricts it to workers that serve this pool. */
  readonly pool?: string;
  /** Headers that its requests carry besides; each name must be listed in `allowHeaders`. They are stored as they are. `null` removes them. */
  readonly headers?: Readonly<Record<string, string>> | null;
  /** The delays between its attempts, in place of the notifier's `schedule`: after the last one, a notification is EXHAUSTED. `null` removes it. */
  readonly schedule?: readonly Duration[] | null;
}

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
   * Creates an endpoint with a URL of its own, which events fan out to: `trigger({ endpoints: 'subscribed', … })`. A tenant has one per URL: if
   * it is there, its settings are changed. Returns its id.
   */
  subscribe(endpoint: { readonly tenant?: string; readonly url: string } & SubscriberOptions): Promise<string>;
  /**
   * Changes settings of an endpoint that was made by `subscribe`, its URL among them; what is not given stays. URL, headers, schedule and key
   * also hold for the next attempts of its pending notifications. `events: []` ends its subscriptions. Returns `false` if it does not exist.
   */
  change(id: string, settings: SubscriberOptions & { readonly url?: string }, by: Actor): Promise<boolean>;
  /**
   * Stops sending to the endpoint until it is resumed. Its notifications wait and lose no attempt. Returns `false` if it does not exist.
   */
  pause(id: string, by: Actor): Promise<boolean>;
  /** Starts sending again, with a closed breaker; also to an endpoint that was disabled. Returns `false` if the endpoint does not exist. */
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
  readonly allowHeaders: ReadonlySet<string>;
  readonly wakers: Wakers;
}

/** The wake-up note that tells workers to read the settings of their endpoints again. Other notes are ids of endpoints. */
export const settingsNote = 'settings';

/** Makes the operators' calls over the table of endpoints: they check their arguments and notify workers of a change. */
export function endpointsOf({ table, egress, keys, allowHeaders, wakers }: EndpointsOptions): Endpoints {
  const changed = async (done: Promise<boolean>): Promise<boolean> => {
    const found = await done;
    if (found) wakers.wake(settingsNote);
    return found;
  };
  const checked = async ({ events, keyRef, pool, headers, schedule }: SubscriberOptions): Promise<SubscriberSettings> => {
    if (keyRef !== undefined) await keys.of(keyText('keyRef', keyRef));
    if (events !== undefined && !Array.isArray(events))
      throw new InvalidArgumentError(`events is ${shownValue(events)}; give a list of types of event.`);
    return {
      events: events?.map((type) => keyText('events', type, 64)),
      keyRef,
      pool,
      headers: headers === null ? null : headers === undefined ? undefined : headersText(headers, allowHeaders),
      delays: schedule === null ? null : schedule === undefined ? undefined : delaysText(schedule),
    };
  };
  return {
    list: (query) => table.list(query),
    get: (id) => table.get(id),
    register: async ({ tenant = '', url, keyRef, pool }) => {
      const { origin } = egress.check(url);
      if (keyRef !== undefined) await keys.of(keyText('keyRef', keyRef));
      return table.register(tenant, origin, { keyRef, pool });
    },
    subscribe: async (endpoint) => {
      const url = egress.check(endpoint.url);
      return table.subscriptions.save(tenantOf(endpoint), url, await checked(endpoint));
    },
    change: async (id, settings, by) => {
      const url = settings.url === undefined ? undefined : egress.check(settings.url);
      return changed(table.subscriptions.change(id, { ...(await checked(settings)), url }, by));
    },
    pause: (id, by) => changed(table.pause(id, by)),
    resume: async (id, by) => {
      const found = await table.resume(id, by);
      if (found) wakers.wake();
      return found;
    },
    limit: (id, limits, by) => changed(table.limit(id, limits, by)),
    rotate: async (id, { keyRef, overlap }, by) => {
      await keys.of(keyText('keyRef', keyRef));
      return changed(table.rotate(id, keyRef, durationMs(overlap ?? '24h', 'overlap'), by));
    },
  };
}

/** @throws InvalidArgumentError */
function delaysText(schedule: readonly Duration[]): string {
  if (!Array.isArray(schedule) || schedule.length === 0 || schedule.length > 100)
    throw new InvalidArgumentError("schedule takes 1 to 100 delays, as in ['5s', '5m', '1h'].");
  steps(...schedule);
  return JSON.stringify(schedule.map((delay) => durationMs(delay, 'schedule')));
}
