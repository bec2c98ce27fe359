import { activeTraceparent, InvalidArgumentError, keyText, shownValue, uuidv7, wholeNumber } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { KeyRing } from '../sign/key-ring.ts';
import { type SealingKeys, sealKey } from '../sign/sealed-key.ts';
import type { Signer } from '../sign/signer.ts';
import type { NewNotification } from '../table/notification-table.ts';
import { bodyText } from './body-text.ts';

/** An event that receivers must be notified of. Tenant, subject, status and sequence identify it; each target is notified of it once. */
export interface NotifierEvent {
  /** The tenant that the event belongs to, up to 100 characters. Each tenant has endpoints of its own. Default `''`. */
  readonly tenant?: string;
  /** Id of the business object that changed, such as an order; up to 191 characters. */
  readonly subjectId: string;
  /** The business state that the subject has reached, up to 64 characters. */
  readonly status: string;
  /** Tells events apart if a subject reaches the same status more than once; orders events that use `supersede`. Default 0. */
  readonly sequence?: number;
  /** Reference of the signing key, resolved through `keys`. Default: the endpoint's key, if it has one. */
  readonly keyRef?: string;
  /** The signing key itself, in place of `keyRef`. It is stored encrypted under `sealingKeys`, and never returned or logged. */
  readonly signKey?: string;
  /** The body, at most 256 KiB: plain data is sent as JSON, a string as it is. It is stored here, so every attempt sends the same bytes. */
  readonly payload: unknown;
  /** Content type of the body. Default `application/json`. */
  readonly contentType?: string;
  /** Additional request headers. Each name must be listed in `allowHeaders`. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Cancels pending notifications of this subject to the same target with a lower `sequence`. Default `false`: notifications of a subject have
   * no order.
   */
  readonly supersede?: boolean;
}

/** An event for one URL. The same event to another URL is another notification. */
export interface Trigger extends NotifierEvent {
  /** The URL that the notification is posted to. `egress` decides whether it is allowed, now and at each attempt. */
  readonly url: string;
  readonly endpoints?: undefined;
}

/** An event for endpoints that were made by `endpoints.subscribe`. */
export interface FanOut extends NotifierEvent {
  /**
   * Ids of endpoints of the tenant; or `'subscribed'`: those that subscribed to the event's `status`. An endpoint that is disabled gets nothing.
   */
  readonly endpoints: 'subscribed' | readonly string[];
  readonly url?: undefined;
}

/** The place where a notification goes. */
export interface Destination {
  readonly target: string;
  readonly url: string;
  readonly origin: string;
  /** Returns the reference of the endpoint's key, for an event that names none. */
  readonly keyRef: () => Promise<string | undefined>;
  /** True if URL and key were checked when the endpoint was made. They are checked at each attempt; one that is bad now must not hold up the others. */
  readonly subscribed: boolean;
}

export interface TriggerRules {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeyRing;
  readonly sealingKeys: SealingKeys | undefined;
  readonly allowHeaders: ReadonlySet<string>;
}

/** Headers that the notifier or HTTP itself sets. */
const ownHeaders =
  /^(host|connection|content-.*|transfer-encoding|keep-alive|upgrade|te|trailer|expect|accept-encoding|webhook-.*|proxy-.*|cookie|authorization)$/;

/** Checks the tenant of an event. */
export function tenantOf({ tenant }: Pick<NotifierEvent, 'tenant'>): string {
  return tenant === undefined || tenant === '' ? '' : keyText('tenant', tenant, 100);
}

/**
 * Checks an event completely, so that no notification is accepted that could never be sent.
 * @param open true if a transaction of the caller's is open: a promise of `keys` is not waited for, unless the key signs within the body
 * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError, CallTimeoutError
 */
export async function newNotification(
  trigger: NotifierEvent,
  destination: Destination,
  rules: TriggerRules,
  open: boolean,
): Promise<NewNotification> {
  const tenant = tenantOf(trigger);
  const subjectId = keyText('subjectId', trigger.subjectId);
  const status = keyText('status', trigger.status, 64);
  const sequence = wholeNumber('sequence', trigger.sequence ?? 0, { least: 0, most: 2_147_483_647 });
  const webhookId = `msg_${uuidv7().replaceAll('-', '')}`;
  const key = await signingKey(trigger, destination, rules, open);
  const contentType = headerText('contentType', trigger.contentType ?? 'application/json');
  if (contentType.length > 100) throw new InvalidArgumentError(`contentType has ${contentType.length} characters; the limit is 100.`);
  return {
    tenant,
    subject_id: subjectId,
    status,
    sequence,
    target: destination.target,
    supersede: trigger.supersede ?? false,
    origin: destination.origin,
    url: destination.url,
    key_ref: trigger.signKey === undefined && trigger.keyRef !== undefined ? keyText('keyRef', trigger.keyRef) : null,
    sealed_key: trigger.signKey === undefined ? null : sealKey(rules.sealingKeys, trigger.signKey, webhookId),
    headers: headersText(trigger.headers, rules.allowHeaders),
    params: bodyText(trigger.payload, rules.signers, key),
    content_type: contentType,
    webhook_id: webhookId,
    traceparent: activeTraceparent(),
  };
}

/** Returns the key that signs now, or `''` if none is needed now; checks it as far as that is possible without waiting within a transaction. */
async function signingKey(trigger: NotifierEvent, destination: Destination, rules: TriggerRules, open: boolean): Promise<string> {
  if (trigger.signKey !== undefined) {
    if (trigger.keyRef !== undefined) throw new InvalidArgumentError('Pass keyRef or signKey, not both.');
    if (typeof trigger.signKey !== 'string' || trigger.signKey === '') throw new InvalidArgumentError('signKey is empty.');
    rules.keys.check(trigger.signKey);
    return trigger.signKey;
  }
  if (rules.signers.length === 0) return '';
  const ref = trigger.keyRef ?? (await destination.keyRef());
  if (ref === undefined)
    throw new InvalidArgumentError(
      `No signing key is named; pass keyRef or signKey, or register a keyRef for the endpoint ${destination.origin}.`,
    );
  const seals = rules.signers.some(({ seal }) => seal);
  if (destination.subscribed && !seals) return '';
  const keys = rules.keys.of(keyText('keyRef', ref));
  if (keys instanceof Promise && open && !seals) {
    // The caller's transaction holds locks. The first attempt says whether the key is there.
    keys.catch(() => undefined);
    return '';
  }
  return (await keys)[0] ?? '';
}

/** Checks additional headers, and writes them as JSON. @throws InvalidArgumentError */
export function headersText(headers: NotifierEvent['headers'], allowed: ReadonlySet<string>): string | null {
  // A Headers or a Map has no properties: what it holds would be left out.
  if (headers !== undefined && headers !== null && (typeof headers !== 'object' || Symbol.iterator in headers))
    throw new InvalidArgumentError(
      `headers is ${typeof headers === 'object' ? `a ${(headers as object).constructor?.name}` : shownValue(headers)}; give a plain object, such as { 'x-name': 'value' }.`,
    );
  const entries = Object.entries(headers ?? {}).map(([name, value]): [string, string] => {
    const lower = name.toLowerCase();
    if (!/^[a-z0-9-]{1,60}$/.test(lower) || ownHeaders.test(lower))
      throw new InvalidArgumentError(`The header ${shownValue(name)} can't be set.`);
    if (!allowed.has(lower))
      throw new InvalidArgumentError(`The header ${name} is not allowed; add it to allowHeaders of createNotifier, or leave it out.`);
    return [lower, headerText(name, value)];
  });
  return entries.length === 0 ? null : JSON.stringify(Object.fromEntries(entries));
}

function headerText(name: string, value: unknown): string {
  if (typeof value !== 'string' || !/^[\x20-\x7e]{1,1000}$/.test(value))
    throw new InvalidArgumentError(`${name} is ${shownValue(value)}; give printable ASCII of up to 1,000 characters.`);
  return value;
}
