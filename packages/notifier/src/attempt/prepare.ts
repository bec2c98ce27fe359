import { boundedCall, cleanText, HoldfastError, type Logger } from '@holdfast/core';
import type { KeyRing } from '../sign/key-ring.ts';
import { openKey, type SealingKeys } from '../sign/sealed-key.ts';
import type { DueRow } from '../table/due-row.ts';
import type { NotificationTable } from '../table/notification-table.ts';

/** The service's decision whether a notification is still to be sent. `signal` aborts when nobody waits for the answer any more. */
export type StillWanted = (
  subjectId: string,
  event: { readonly tenant: string; readonly status: string; readonly signal: AbortSignal },
) => boolean | Promise<boolean>;

export interface PrepareOptions {
  readonly notifications: NotificationTable;
  readonly keys: KeyRing;
  readonly sealingKeys: SealingKeys | undefined;
  readonly signs: boolean;
  readonly stillWanted: StillWanted | undefined;
  /** How long a promise of `stillWanted` is waited for, in ms. */
  readonly callMs: number;
  readonly logger: Logger;
}

/** The decision about a notification whose turn has come. */
export type Plan =
  | { readonly kind: 'send'; readonly keys: readonly string[] }
  | { readonly kind: 'cancel'; readonly reason: string }
  /** Postponed: the service's keys or its `stillWanted` are unavailable. Costs no attempt. */
  | { readonly kind: 'later'; readonly delayMs: number; readonly reason: string }
  /** It can't be signed. Recorded as a failed attempt, so that operators see it. */
  | { readonly kind: 'no-key'; readonly message: string };

const postponeMs = 15_000;

/** The part of a session (`worker/session.ts`) that decides about an attempt, and about its signature. */
export interface EndpointKeys {
  readonly signal: AbortSignal;
  /** References of the endpoint's keys: the current key first, then the previous one. */
  readonly keyRefs: readonly string[];
}

/** Decides whether a notification is still to be sent, and with which keys. Returns no promise if nothing has to be awaited. */
export function prepare(row: DueRow, endpoint: EndpointKeys, options: PrepareOptions): Plan | Promise<Plan> {
  if (row.supersede || options.stillWanted) return checkWanted(row, endpoint, options);
  return withKeys(row, endpoint, options);
}

async function checkWanted(row: DueRow, endpoint: EndpointKeys, options: PrepareOptions): Promise<Plan> {
  const { notifications, stillWanted, callMs, logger } = options;
  try {
    if (row.supersede && (await notifications.superseded(row))) return { kind: 'cancel', reason: 'superseded' };
    const call = { name: 'stillWanted', ms: callMs, signal: endpoint.signal };
    if (
      stillWanted &&
      !(await boundedCall((signal) => stillWanted(row.subjectId, { tenant: row.tenant, status: row.status, signal }), call))
    )
      return { kind: 'cancel', reason: 'not wanted any more' };
  } catch (err) {
    if (!endpoint.signal.aborted) logger.warn({ err, notification: row.id }, 'stillWanted failed; the attempt is postponed');
    const late = HoldfastError.is(err, 'call-timeout');
    return { kind: 'later', delayMs: postponeMs, reason: late ? `stillWanted did not answer within ${callMs} ms` : 'stillWanted failed' };
  }
  return withKeys(row, endpoint, options);
}

function withKeys(row: DueRow, { keyRefs, signal }: EndpointKeys, options: PrepareOptions): Plan | Promise<Plan> {
  if (!options.signs) return { kind: 'send', keys: [] };
  try {
    if (row.sealedKey !== null) return { kind: 'send', keys: [openKey(options.sealingKeys, row.sealedKey, row.webhookId)] };
    const refs = row.keyRef === null ? keyRefs : [row.keyRef];
    if (refs.length === 0) return { kind: 'no-key', message: 'Neither the notification nor its endpoint names a key.' };
    const found = options.keys.ofEndpoint(refs, signal);
    if (!(found instanceof Promise)) return { kind: 'send', keys: found };
    return found.then(
      (keys): Plan => ({ kind: 'send', keys }),
      (error) => keysFailed(row, error, signal, options),
    );
  } catch (error) {
    return keysFailed(row, error, signal, options);
  }
}

/** A key that is unknown or unfit fails the attempt: its owner has to register another. If the key source itself fails, the attempt is postponed. */
function keysFailed(row: DueRow, error: unknown, signal: AbortSignal, { logger }: PrepareOptions): Plan {
  if (HoldfastError.is(error, 'key-unknown') || HoldfastError.is(error, 'key-invalid')) return { kind: 'no-key', message: error.message };
  if (!signal.aborted)
    logger.warn({ err: error, notification: row.id }, 'the keys of a notification could not be read; the attempt is postponed');
  return { kind: 'later', delayMs: postponeMs, reason: cleanText(`keys failed: ${(error as Error)?.message ?? error}`).slice(0, 191) };
}
