import { cleanText, HoldfastError, type Logger } from '@holdfast/core';
import { type KeySource, keysOf } from '../sign/key-ring.ts';
import { openKey, type SealingKeys } from '../sign/sealed-key.ts';
import type { DueRow } from '../table/due-row.ts';
import type { NotificationTable } from '../table/notification-table.ts';

export interface PrepareOptions {
  readonly notifications: NotificationTable;
  readonly keys: KeySource | undefined;
  readonly sealingKeys: SealingKeys | undefined;
  readonly signs: boolean;
  readonly stillWanted:
    | ((subjectId: string, event: { readonly tenant: string; readonly status: string }) => boolean | Promise<boolean>)
    | undefined;
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

/** Decides whether a notification is still to be sent, and with which keys. Returns no promise if nothing has to be awaited. */
export function prepare(row: DueRow, keyRefs: readonly string[], options: PrepareOptions): Plan | Promise<Plan> {
  if (row.supersede || options.stillWanted) return checkWanted(row, keyRefs, options);
  return withKeys(row, keyRefs, options);
}

async function checkWanted(row: DueRow, keyRefs: readonly string[], options: PrepareOptions): Promise<Plan> {
  try {
    if (row.supersede && (await options.notifications.superseded(row))) return { kind: 'cancel', reason: 'superseded' };
    if (options.stillWanted && !(await options.stillWanted(row.subjectId, { tenant: row.tenant, status: row.status })))
      return { kind: 'cancel', reason: 'not wanted any more' };
  } catch (err) {
    options.logger.warn({ err, notification: row.id }, 'stillWanted failed; the attempt is postponed');
    return { kind: 'later', delayMs: postponeMs, reason: 'stillWanted failed' };
  }
  return withKeys(row, keyRefs, options);
}

function withKeys(row: DueRow, keyRefs: readonly string[], options: PrepareOptions): Plan | Promise<Plan> {
  if (!options.signs) return { kind: 'send', keys: [] };
  try {
    if (row.sealedKey !== null) return { kind: 'send', keys: [openKey(options.sealingKeys, row.sealedKey, row.webhookId)] };
    const refs = row.keyRef === null ? keyRefs : [row.keyRef];
    if (refs.length === 0) return { kind: 'no-key', message: 'Neither the notification nor its endpoint names a key.' };
    const found = refs.map((ref) => keysOf(options.keys, ref));
    if (found.some((keys) => keys instanceof Promise))
      return Promise.all(found).then(
        (lists): Plan => ({ kind: 'send', keys: lists.flat() }),
        (error) => keysFailed(row, error, options),
      );
    return { kind: 'send', keys: (found as (readonly string[])[]).flat() };
  } catch (error) {
    return keysFailed(row, error, options);
  }
}

/** An unknown key fails the attempt: its owner has to register it. If the key source itself fails, the attempt is postponed. */
function keysFailed(row: DueRow, error: unknown, { logger }: PrepareOptions): Plan {
  if (HoldfastError.is(error, 'key-unknown')) return { kind: 'no-key', message: error.message };
  logger.warn({ err: error, notification: row.id }, 'the keys of a notification could not be read; the attempt is postponed');
  return { kind: 'later', delayMs: postponeMs, reason: cleanText(`keys failed: ${(error as Error)?.message ?? error}`).slice(0, 191) };
}
