import { activeTraceparent, InvalidArgumentError, jsonText, keyText, unfitText, uuidv7 } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import { checkKeys, type KeySource, keysOf } from '../sign/key-ring.ts';
import { type SealingKeys, sealKey } from '../sign/sealed-key.ts';
import type { Signer } from '../sign/signer.ts';
import type { NewNotification } from '../table/notification-table.ts';

/** An event that a receiver must hear of. */
export interface Trigger {
  /** Whose event it is. Endpoints are kept apart by it. Default `''`. */
  readonly tenant?: string;
  /** What it is about: an order, an application. */
  readonly subjectId: string;
  /** The business state that was reached. */
  readonly status: string;
  /** Which time that is, where a subject reaches a status more than once. Default 0. */
  readonly sequence?: number;
  readonly url: string;
  /** Names the key that signs. Default: that of the endpoint, if it has one. */
  readonly keyRef?: string;
  /** A key that came with the request, instead of a reference. Kept sealed; never returned or logged. */
  readonly signKey?: string;
  /** Plain data, sent as JSON; or text, sent as it is. Frozen here: every attempt sends the same bytes. */
  readonly payload: unknown;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** Further headers. Each must be allowed by `allowHeaders`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends notifications of this subject with a lower `sequence` that are still pending. Without it they have no order. */
  readonly supersede?: boolean;
}

export interface TriggerRules {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeySource | undefined;
  readonly sealingKeys: SealingKeys | undefined;
  readonly allowHeaders: ReadonlySet<string>;
  /** The key that the endpoint signs with when a trigger names none. */
  readonly endpointKey: (tenant: string, origin: string) => Promise<string | undefined>;
}

const maxBodyBytes = 262_144;
/** Set by us, or by HTTP itself. */
const ownHeaders =
  /^(host|connection|content-.*|transfer-encoding|keep-alive|upgrade|te|trailer|expect|accept-encoding|webhook-.*|proxy-.*|cookie|authorization)$/;

/**
 * Checks a trigger whole, so that nothing is accepted that could never be sent.
 * @throws InvalidArgumentError, EgressDeniedError, UnknownKeyError, InvalidKeyError, NotSignableError
 */
export async function newNotification(trigger: Trigger, rules: TriggerRules): Promise<NewNotification> {
  if (typeof trigger !== 'object' || trigger === null)
    throw new InvalidArgumentError('trigger takes { subjectId, status, url, payload, … }.');
  const tenant = trigger.tenant === undefined || trigger.tenant === '' ? '' : keyText('tenant', trigger.tenant, 100);
  const subjectId = keyText('subjectId', trigger.subjectId);
  const status = keyText('status', trigger.status, 64);
  const sequence = trigger.sequence ?? 0;
  if (!Number.isInteger(sequence) || sequence < 0 || sequence > 2_147_483_647)
    throw new InvalidArgumentError(`sequence is ${sequence}; give a whole number from 0 to 2,147,483,647.`);
  const url = rules.egress.check(trigger.url);
  const webhookId = `msg_${uuidv7().replaceAll('-', '')}`;
  const keys = await signingKeys(trigger, tenant, url.origin, rules);
  let payload = trigger.payload;
  for (const signer of rules.signers) if (signer.seal) payload = signer.seal(payload, keys.current);
  const contentType = headerText('contentType', trigger.contentType ?? 'application/json');
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
    params: bodyText(payload),
    content_type: contentType,
    webhook_id: webhookId,
    traceparent: activeTraceparent(),
  };
}

async function signingKeys(trigger: Trigger, tenant: string, origin: string, rules: TriggerRules): Promise<{ readonly current: string }> {
  if (trigger.signKey !== undefined) {
    if (trigger.keyRef !== undefined) throw new InvalidArgumentError('Pass keyRef or signKey, not both.');
    if (typeof trigger.signKey !== 'string' || trigger.signKey === '') throw new InvalidArgumentError('signKey is empty.');
    checkKeys(rules.signers, [trigger.signKey]);
    return { current: trigger.signKey };
  }
  if (rules.signers.length === 0) return { current: '' };
  const ref = trigger.keyRef ?? (await rules.endpointKey(tenant, origin));
  if (ref === undefined)
    throw new InvalidArgumentError(`Nothing says with which key to sign; pass keyRef or signKey, or give the endpoint ${origin} a key.`);
  const keys = await keysOf(rules.keys, keyText('keyRef', ref));
  checkKeys(rules.signers, keys);
  return { current: keys[0] ?? '' };
}

function bodyText(payload: unknown): string {
  if (typeof payload === 'string') {
    const unfit = unfitText(payload);
    if (unfit) throw new InvalidArgumentError(`The payload holds ${unfit}; send binary data as base64.`);
    const bytes = Buffer.byteLength(payload);
    if (bytes > maxBodyBytes)
      throw new InvalidArgumentError(`The payload is ${bytes} bytes; the limit is ${maxBodyBytes}. Send a link to the data instead.`);
    return payload;
  }
  const json = jsonText(payload, maxBodyBytes, '256 KiB');
  if ('problem' in json) throw new InvalidArgumentError(`The payload ${json.problem}`, json.cause);
  return json.text;
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
