import { InvalidArgumentError, keyText, uuidv7 } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import type { KeyRing } from '../sign/key-ring.ts';
import type { Signer } from '../sign/signer.ts';
import { bodyText } from '../trigger/body-text.ts';
import type { DatabaseClock } from './database-clock.ts';
import type { Delivery } from './delivery.ts';
import type { Judgement } from './outcome.ts';

/** The result of a probe. */
export type Probe = Omit<Judgement, 'retryAfterMs'> & { readonly trigger: 'test' };

export interface ProbeParts {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeyRing;
  readonly clock: DatabaseClock;
  readonly delivery: Delivery;
  /** Aborts when the notifier is closed. */
  readonly closing: AbortSignal;
}

const closingText = 'The probe was aborted because the notifier is closing.';

/** Sends a signed test request to a URL, under the rules that hold for notifications. Nothing is stored. */
export async function probe(
  url: string,
  options: { readonly keyRef?: string; readonly payload?: unknown },
  { egress, signers, keys: ring, clock, delivery, closing }: ProbeParts,
): Promise<Probe> {
  if (closing.aborted) throw new InvalidArgumentError(closingText);
  const checked = egress.check(url);
  if (signers.length > 0 && options.keyRef === undefined)
    throw new InvalidArgumentError('A probe is signed as notifications are; pass keyRef.');
  const keys = options.keyRef === undefined ? [] : await ring.of(keyText('keyRef', options.keyRef), closing);
  const body = bodyText(options.payload ?? { type: 'test' }, signers, keys[0] ?? '');
  // Each time: without a worker nothing else corrects the clock, which stands still while the machine sleeps.
  await clock.read();
  const request = {
    url: checked.href,
    webhookId: `test_${uuidv7().replaceAll('-', '')}`,
    contentType: 'application/json',
    headers: null,
  };
  const judgement = await delivery.send(request, body, keys, closing);
  if (!judgement) throw new InvalidArgumentError(closingText);
  const { retryAfterMs: _, ...found } = judgement;
  return { ...found, trigger: 'test' };
}
