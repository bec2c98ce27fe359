import type { Message } from './message.ts';

/** One delivery of a message to a handler. */
export interface Delivery {
  readonly message: Message;
  /** The number of this delivery, from 1, as far as the broker or this process has counted. */
  readonly attempt: number;
  /** The place that the message was read from: partition and offset, stream id, or queue. */
  readonly at: Readonly<Record<string, string | number>>;
  /** Aborts when another member takes the delivery over, or when `close` has waited for `closeMs`. The message is then delivered again. */
  readonly signal: AbortSignal;
}

/** A handler's answer to a delivery. A handler that throws counts as `retry` after the subscription's `retryMs`. */
export type DeliveryVerdict =
  /** The message is handled: it is not delivered again. */
  | { readonly outcome: 'ack' }
  /** Deliver the message again after `afterMs`; later messages of its key wait. */
  | { readonly outcome: 'retry'; readonly afterMs: number }
  /** Never deliver the message again: store it with the dead letters, with the reason. */
  | { readonly outcome: 'reject'; readonly reason: string };

/** The message is handled: it is not delivered again. */
export const ack: DeliveryVerdict = { outcome: 'ack' };
/** Delivers the message again after `afterMs`, before later messages of its key. */
export function retry(afterMs: number): DeliveryVerdict {
  return { outcome: 'retry', afterMs };
}
/** Stores the message with the dead letters, with the reason, because it can never be handled. The next one is delivered. */
export function reject(reason: string): DeliveryVerdict {
  return { outcome: 'reject', reason };
}

/** Options of one subscription. */
export interface SubscribeOptions {
  /** Members of one group share the messages; each group gets every message. */
  readonly group: string;
  /**
   * `group`: the members share the messages. `broadcast`: every member gets every message from now on, as for a cache to
   * clear. Default `group`.
   */
  readonly mode?: 'group' | 'broadcast';
  /** The most handlers that run at a time in this process. Deliveries of one key never overlap. Default 6. */
  readonly concurrency?: number;
  /** Pause in ms before a message whose handler threw is delivered again. Default 1,000. */
  readonly retryMs?: number;
  /**
   * The time, in ms, that `close` waits for running handlers. Then their signals abort, and their messages are delivered again
   * elsewhere. Default 30,000.
   */
  readonly closeMs?: number;
}

/** Delivers messages of topics to a handler until it is closed. */
export interface Subscription {
  /** True while messages are delivered; false while the broker can't be reached. */
  readonly ready: boolean;
  /** Stops reading, waits for running handlers, and closes what it opened. Messages without a verdict are delivered again elsewhere. */
  close(): Promise<void>;
}

/** Reads messages from a broker. */
export interface Subscriber {
  /** Resolves once messages that are published from now on will be delivered. While the broker can't be reached it keeps trying. */
  subscribe(
    topics: readonly string[],
    options: SubscribeOptions,
    handler: (delivery: Delivery) => Promise<DeliveryVerdict>,
  ): Promise<Subscription>;
  /** Closes all subscriptions, then the connections that were opened for them. */
  close(): Promise<void>;
}
