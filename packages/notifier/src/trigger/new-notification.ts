import { activeTraceparent, InvalidArgumentError, keyText, uuidv7, wholeNumber } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { KeyRing } from '../sign/key-ring.ts';
import { type SealingKeys, sealKey } from '../sign/sealed-key.ts';
import type { Signer } from '../sign/signer.ts';
import type { NewNotification } from '../table/notification-table.ts';
import { bodyText } from './body-text.ts';

/** An event that a receiver must be notified of. Tenant, subject, status and sequence identify it. */
export interface Trigger {
  /** The tenant that the event belongs to, up to 100 characters. Each tenant has endpoints of its own. Default `''`. */
  readonly tenant?: string;
  /** Id of the business object that changed, such as an order; up to 191 characters. */
  readonly subjectId: string;
  /** The business state that the subject has reached, up to 64 characters. */
  readonly status: string;
  /** Tells events apart if a subject reaches the same status more than once; orders events that use `supersede`. Default 0. */
  readonly sequence?: number;
  /** The URL that the notification is posted to. `egress` decides whether it is allowed, now and at each attempt. */
  readonly url: string;
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
  /** Cancels pending notifications of this subject with a lower `sequence`. Default `false`: notifications of a subject have no order. */
  readonly supersede?: boolean;
}

export interface TriggerRules {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeyRing;
  readonly sealingKeys: SealingKeys | undefined;
  readonly allowHeaders: ReadonlySet<string>;
  /** Returns the reference of the endpoint's key, for a trigger that names none. */
  readonly endpointKey: (tenant: string, origin: string) => Promise<string | undefined>;
}

/** Headers that the notifier or HTTP itself sets. */
const ownHeaders =
  /^(host|connection|content-.*|transfer-encoding|keep-alive|upgrade|te|trailer|expect|accept-encoding|webhook-.*|proxy-.*|cookie|authorization)$/;

/**
 * Checks a trigger completely, so that no notification is accepted that could never be sent.
 * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError
 */
export async function newNotification(trigger: Trigger, rules: TriggerRules): Promise<NewNotification> {
  if (typeof trigger !== 'object' || trigger === null)
    throw new InvalidArgumentError('trigger takes { subjectId, status, url, payload, … }.');
  const tenant = trigger.tenant === undefined || trigger.tenant === '' ? '' : keyText('tenant', trigger.tenant, 100);
  const subjectId = keyText('subjectId', trigger.subjectId);
  const status = keyText('status', trigger.status, 64);
  const sequence = wholeNumber('sequence', trigger.sequence ?? 0, { least: 0, most: 2_147_483_647 });
  const url = rules.egress.check(trigger.url);
  const webhookId = `msg_${uuidv7().replaceAll('-', '')}`;
  const keys = await signingKeys(trigger, tenant, url.origin, rules);
  const contentType = headerText('contentType', trigger.contentType ?? 'application/json');
  if (contentType.length > 100) throw new InvalidArgumentError(`contentType has ${contentType.length} characters; the limit is 100.`);
  return {
    tenant,
    subject_id: subjectId,
    status,
    sequence,
    supersede: trigger.supersede ?? false,
    origin: url.origin,
    url: url.href,
    key_ref: trigger.signKey === undefined ? (trigger.keyRef ?? null) : null,
    sealed_key: trigger.signKey === undefined ? null : sealKey(rules.sealingKeys, trigger.signKey, webhookId),
    headers: headersText(trigger.headers, rules.allowHeaders),
    params: bodyText(trigger.payload, rules.signers, keys.current),
    content_type: contentType,
    webhook_id: webhookId,
    traceparent: activeTraceparent(),
  };
}

async function signingKeys(trigger: Trigger, tenant: string, origin: string, rules: TriggerRules): Promise<{ readonly current: string }> {
  if (trigger.signKey !== undefined) {
    if (trigger.keyRef !== undefined) throw new InvalidArgumentError('Pass keyRef or signKey, not both.');
    if (typeof trigger.signKey !== 'string' || trigger.signKey === '') throw new InvalidArgumentError('signKey is empty.');
    rules.keys.check(trigger.signKey);
    return { current: trigger.signKey };
  }
  if (rules.signers.length === 0) return { current: '' };
  const ref = trigger.keyRef ?? (await rules.endpointKey(tenant, origin));
  if (ref === undefined)
    throw new InvalidArgumentError(`No signing key is named; pass keyRef or signKey, or register a keyRef for the endpoint ${origin}.`);
  const keys = await rules.keys.of(keyText('keyRef', ref));
  return { current: keys[0] ?? '' };
}

function headersText(headers: Trigger['headers'], allowed: ReadonlySet<string>): string | null {
  const entries = Object.entries(headers ?? {}).map(([name, value]): [string, string] => {
    const lower = name.toLowerCase();
    if (!/^[a-z0-9-]{1,60}$/.test(lower) || ownHeaders.test(lower))
      throw new InvalidArgumentError(`The header ${JSON.stringify(name)} can't be set by a trigger.`);
    if (!allowed.has(lower))
      throw new InvalidArgumentError(`The header ${name} is not allowed; add it to allowHeaders of createNotifier, or leave it out.`);
    return [lower, headerText(name, value)];
  });
  return entries.length === 0 ? null : JSON.stringify(Object.fromEntries(entries));
}

function headerText(name: string, value: unknown): string {
  if (typeof value !== 'string' || !/^[\x20-\x7e]{1,1000}$/.test(value))
    throw new InvalidArgumentError(`${name} is ${JSON.stringify(value)}; give printable ASCII of up to 1,000 characters.`);
  return value;
}
