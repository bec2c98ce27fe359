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

/** What is to be done with a notification whose turn has come. */
export type Plan =
  | { readonly kind: 'send'; readonly keys: readonly string[] }
  | { readonly kind: 'cancel'; readonly reason: string }
  /** Something of ours is not there. Costs no attempt. */
  | { readonly kind: 'later'; readonly delayMs: number; readonly reason: string }
  /** It can't be signed: a failed attempt, so that it shows. */
  | { readonly kind: 'no-key'; readonly message: string };

const laterMs = 15_000;

/** Finds out whether a notification is still to be sent, and with which keys. No promise where nothing has to be waited for. */
export function prepare(row: DueRow, keyRefs: readonly string[], options: PrepareOptions): Plan | Promise<Plan> {
  if (row.supersede || options.stillWanted) return prepareSlowly(row, keyRefs, options);
  return withKeys(row, keyRefs, options);
}

async function prepareSlowly(row: DueRow, keyRefs: readonly string[], options: PrepareOptions): Promise<Plan> {
  try {
    if (row.supersede && (await options.notifications.superseded(row))) return { kind: 'cancel', reason: 'superseded' };
    if (options.stillWanted && !(await options.stillWanted(row.subjectId, { tenant: row.tenant, status: row.status })))
      return { kind: 'cancel', reason: 'not wanted any more' };
  } catch (err) {
    options.logger.warn({ err, notification: row.id }, 'whether a notification is still wanted could not be found out; it waits');
    return { kind: 'later', delayMs: laterMs, reason: 'stillWanted failed' };
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
        (error) => failed(row, error, options),
      );
    return { kind: 'send', keys: (found as (readonly string[])[]).flat() };
  } catch (error) {
    return failed(row, error, options);
  }
}

/** A key that is not there is said so by its receiver's owner; a secret store that is down is our affair. */
function failed(row: DueRow, error: unknown, { logger }: PrepareOptions): Plan {
  if (HoldfastError.is(error, 'key-unknown')) return { kind: 'no-key', message: error.message };
  logger.warn({ err: error, notification: row.id }, 'the keys of a notification could not be read; it waits');
  return { kind: 'later', delayMs: laterMs, reason: cleanText(`keys failed: ${(error as Error)?.message ?? error}`).slice(0, 191) };
}
