import type { Message } from './message.ts';

/** A message as it arrived. */
export interface Delivery {
  readonly message: Message;
  /** Deliveries so far, this one included, as far as the broker or this process knows. */
  readonly attempt: number;
  /** Where it was read: partition and offset, stream id, queue. */
  readonly at: Readonly<Record<string, string | number>>;
  /** Aborts when the delivery is no longer ours, or the subscription gives up waiting at its close. */
  readonly signal: AbortSignal;
}

/** What a handler says of a delivery. A throw counts as `retry` with the subscription's `retryMs`. */
export type DeliveryVerdict =
  | { readonly outcome: 'ack' }
  /** Deliver it again after `afterMs`; later messages of its key wait. */
  | { readonly outcome: 'retry'; readonly afterMs: number }
  /** Never again: to the dead letters, with the reason. */
  | { readonly outcome: 'reject'; readonly reason: string };

/** Handled: it does not come again. */
export const ack: DeliveryVerdict = { outcome: 'ack' };
/** It comes again after so many ms, before later ones of its key. */
export function retry(afterMs: number): DeliveryVerdict {
  return { outcome: 'retry', afterMs };
}
/** It can never be handled: it goes to the dead letters with the reason, and the next one comes. */
export function reject(reason: string): DeliveryVerdict {
  return { outcome: 'reject', reason };
}

/** How a subscription reads. */
export interface SubscribeOptions {
  /** Members of one group share the messages; each group gets all of them. */
  readonly group: string;
  /** `broadcast`: every member gets every message from now on (a wake-up, a cache to clear). Default `group`. */
  readonly mode?: 'group' | 'broadcast';
  /** Deliveries at a time in this process; those of one key never overlap. Default 6. */
  readonly concurrency?: number;
  /** Pause before a delivery whose handler threw comes again, in ms. Default 1,000. */
  readonly retryMs?: number;
  /** How long `close` waits for handlers before their signals abort and their messages are left to others, in ms. Default 30,000. */
  readonly closeMs?: number;
}

/** A reader of topics in a group, until it is closed. */
export interface Subscription {
  /** Whether messages arrive at present. */
  readonly ready: boolean;
  /** Takes no more, waits for handlers under way, closes what it opened. What has no verdict comes again elsewhere. */
  close(): Promise<void>;
}

/** Whatever messages are read through. */
export interface Subscriber {
  /** Resolves when messages published from now on will arrive; while the broker is not there it keeps trying. */
  subscribe(
    topics: readonly string[],
    options: SubscribeOptions,
    handler: (delivery: Delivery) => Promise<DeliveryVerdict>,
  ): Promise<Subscription>;
  /** Ends all subscriptions and closes what was opened. */
  close(): Promise<void>;
}
