import type { Backoff } from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Message } from './message.ts';

/** One delivery of a message to a handler. `Payload` is what the subscription's `schema` returns. */
export interface Delivery<Payload = undefined> {
  readonly message: Message;
  /** The number of this delivery, from 1, as far as the broker or this process has counted. */
  readonly attempt: number;
  /** The place that the message was read from: partition and offset, stream id, or queue. */
  readonly at: Readonly<Record<string, string | number>>;
  /**
   * Aborts when another member takes the delivery over, when `close` has waited for `closeMs`, or after `handlerTimeoutMs`. The message is
   * then delivered again. A handler that goes on for a second after that is given up: its answer counts no more.
   */
  readonly signal: AbortSignal;
  /** The message's body, parsed as JSON and checked by the subscription's `schema`; `undefined` without one. */
  readonly payload: Payload;
}

/** A handler's answer to a delivery. A handler that throws, or returns anything else, counts as `retry` by the subscription's policy. */
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
export interface SubscribeOptions<Payload = undefined> {
  /** Members of one group share the messages; each group gets every message. */
  readonly group: string;
  /**
   * `group`: the members share the messages. `broadcast`: every member gets every message from now on, as for a cache to
   * clear. Default `group`.
   */
  readonly mode?: 'group' | 'broadcast';
  /** The most handlers that run at a time in this process. Deliveries of one key never overlap. Default 6. */
  readonly concurrency?: number;
  /** Pause in ms before a message whose handler threw is delivered again. Default 1,000. `retry` replaces it. */
  readonly retryMs?: number;
  /**
   * When a message whose handler threw is delivered again, and how many deliveries it gets in all; after the last one it is rejected. The
   * maximum also ends the retries that the handler asks for. Deliveries are counted as far as `attempt` knows them. Default: every `retryMs`,
   * without a maximum.
   *
   * ```ts
   * retry: exponential({ first: '1s', cap: '5m' }).jitter(0.2).upTo(8)
   * ```
   */
  readonly retry?: Backoff;
  /**
   * The time, in ms, that a handler may take. After it the handler's signal aborts, and the delivery counts as one whose handler threw, so
   * that a handler which never ends holds up neither its key nor `close`. Default 900,000 (15 minutes). RabbitMQ closes the channel of a
   * delivery that was not acked for 30 minutes.
   */
  readonly handlerTimeoutMs?: number;
  /**
   * Checks the payload, which the handler then gets as `delivery.payload`: the body is parsed as JSON, and any Standard Schema (zod, valibot,
   * arktype) validates it. A message that is not JSON or does not fit is rejected; the handler is not called. Default: no check.
   */
  readonly schema?: StandardSchemaV1<unknown, Payload>;
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
  /**
   * Resolves once messages that are published from now on will be delivered. While the broker can't be reached it keeps trying; the first
   * failure is logged as a warning.
   * @throws SubscribeRefusedError if the broker refuses: wrong credentials, no permission, a queue that exists in another shape
   */
  subscribe<Payload = undefined>(
    topics: readonly string[],
    options: SubscribeOptions<Payload>,
    handler: (delivery: Delivery<Payload>) => Promise<DeliveryVerdict>,
  ): Promise<Subscription>;
  /** Closes all subscriptions, then the connections that were opened for them. */
  close(): Promise<void>;
}
