/** One batch of a partition under way, from its beginning to the end of its last handler. */
export class Turn {
  readonly #lost = new AbortController();
  readonly #ended = Promise.withResolvers<bigint | undefined>();
  readonly #interrupted = Promise.withResolvers<never>();
  #over = false;

  constructor() {
    this.#interrupted.promise.catch(() => undefined);
  }

  /** Aborts when the partition belongs to another member. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** True if no further record of the batch is to be delivered: it will be fetched again. */
  get over(): boolean {
    return this.#over;
  }

  /** Rejects with kafkajs's error when the group is shared out anew: throw it, so that kafkajs joins again. */
  get interrupted(): Promise<never> {
    return this.#interrupted.promise;
  }

  /** Resolves when no handler of the batch runs any more, with the offset after the last record that it settled. */
  get ended(): Promise<bigint | undefined> {
    return this.#ended.promise;
  }

  /** The rest of the batch is fetched again. The record under way is still this member's. */
  finish(): void {
    this.#over = true;
  }

  /** Another member has the partition. */
  lose(): void {
    this.#over = true;
    this.#lost.abort(new Error('Another member has taken over the partition of this message; the message will be delivered again there.'));
  }

  /** A heartbeat failed. Does nothing unless the group is shared out anew, or no longer knows this member. */
  refused(error: unknown): void {
    const { type } = (error ?? {}) as { readonly type?: string };
    if (type === 'REBALANCE_IN_PROGRESS') this.finish();
    else if (type === 'UNKNOWN_MEMBER_ID' || type === 'ILLEGAL_GENERATION') this.lose();
    else return;
    this.#interrupted.reject(error as Error);
  }

  end(settled: bigint | undefined): void {
    this.#ended.resolve(settled);
  }
}
