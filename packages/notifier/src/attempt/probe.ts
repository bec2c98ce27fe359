import { InvalidArgumentError, uuidv7 } from '@holdfast/core';
import type { Egress } from '../egress/egress.ts';
import { checkKeys, type KeySource, keysOf } from '../sign/key-ring.ts';
import type { Signer } from '../sign/signer.ts';
import type { DatabaseClock } from './database-clock.ts';
import type { Delivery } from './delivery.ts';
import type { Judgement } from './outcome.ts';

/** The result of a probe. */
export type Probe = Omit<Judgement, 'retryAfterMs'> & { readonly trigger: 'test' };

export interface ProbeParts {
  readonly egress: Egress;
  readonly signers: readonly Signer[];
  readonly keys: KeySource | undefined;
  readonly clock: DatabaseClock;
  readonly delivery: Delivery;
}

/** Sends a signed test request to a URL, under the rules that hold for notifications. Nothing is stored. */
export async function probe(
  url: string,
  options: { readonly keyRef?: string; readonly payload?: unknown },
  { egress, signers, keys: source, clock, delivery }: ProbeParts,
): Promise<Probe> {
  const checked = egress.check(url);
  if (signers.length > 0 && options.keyRef === undefined)
    throw new InvalidArgumentError('A probe is signed as notifications are; pass keyRef.');
  const keys = options.keyRef === undefined ? [] : await keysOf(source, options.keyRef);
  checkKeys(signers, keys);
  await clock.ready();
  let payload: unknown = options.payload ?? { type: 'test' };
  for (const signer of signers) if (signer.seal) payload = signer.seal(payload, keys[0] ?? '');
  const request = {
    url: checked.href,
    webhookId: `test_${uuidv7().replaceAll('-', '')}`,
    contentType: 'application/json',
    headers: null,
  };
  const judgement = await delivery.send(request, JSON.stringify(payload), keys);
  if (!judgement) throw new InvalidArgumentError('The probe was aborted because the notifier is closing.');
  const { retryAfterMs: _, ...found } = judgement;
  return { ...found, trigger: 'test' };
}
