import type { StoredError } from '@holdfast/core';
import type { Message } from './message.ts';

/**
 * What became of one message.
 *
 * - `acked`: the broker has it; `at` says where (partition and offset, stream id, delivery tag).
 * - `retriable`: it has not, or nobody knows (a time-out is indefinite): publish it again.
 * - `backpressure`: it takes nothing at the moment; waiting is no failed attempt.
 * - `poison`: this message can never be published (too large, unroutable, an invalid topic).
 * - `fatal`: nothing can be published until a person acts (credentials, an unknown cluster).
 */
export type PublishResult =
  | { readonly outcome: 'acked'; readonly at: Readonly<Record<string, string | number>> }
  | { readonly outcome: 'retriable' | 'backpressure' | 'poison' | 'fatal'; readonly error: StoredError };

/** Whatever messages are published through. One per broker, for as long as the process lives. */
export interface Publisher {
  /**
   * Whether of the messages of one key in a batch those acked are always the first ones. Where it is not so, at most one
   * message of a key may be under way: K:1 refused and K:2 acked would break their order.
   */
  readonly prefixPerKey: boolean;
  /** One result per message, in their order. Rejects only with `signal.reason`. */
  publish(batch: readonly Message[], options?: { readonly signal?: AbortSignal }): Promise<readonly PublishResult[]>;
  /** Waits for what is under way, and closes what this publisher opened itself. */
  close(): Promise<void>;
}
