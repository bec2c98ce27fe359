import type { StoredError } from '@holdfast/core';
import type { Message } from './message.ts';

/**
 * The result of publishing one message.
 *
 * - `acked`: the broker has the message; `at` says where (partition and offset, stream id, delivery tag).
 * - `retriable`: the broker does not have the message, or that is unknown, as after a time-out. Publish it again under the same id.
 * - `backpressure`: the broker takes no messages at present. Wait; this does not count as a failed attempt.
 * - `poison`: this message can never be published: it is too large or unroutable, or its topic is invalid.
 * - `fatal`: nothing can be published until a person acts, as when credentials are wrong.
 */
export type PublishResult =
  | { readonly outcome: 'acked'; readonly at: Readonly<Record<string, string | number>> }
  | { readonly outcome: 'retriable' | 'backpressure' | 'poison' | 'fatal'; readonly error: StoredError };

/** Publishes messages to a broker. Create one per broker and keep it for as long as the process runs. */
export interface Publisher {
  /**
   * True if the acked messages of one key in a batch are always the first ones of that key. If false, publish at most one message
   * of a key at a time: if K:1 were refused and K:2 acked, their order would be lost.
   */
  readonly prefixPerKey: boolean;
  /** Publishes a batch and resolves with one result per message, in the same order. Rejects only with `signal.reason`. */
  publish(batch: readonly Message[], options?: { readonly signal?: AbortSignal }): Promise<readonly PublishResult[]>;
  /** Waits for publishes in progress, then closes the connections that this publisher opened itself. */
  close(): Promise<void>;
}
