import type { Subscription } from '../port/subscriber.ts';

/** A subscription that is opened after it was created. */
export interface StartableSubscription extends Subscription {
  /** Resolves when messages are delivered. Rejects if the broker refuses; `close` then cleans up. */
  start(): Promise<void>;
}

/** The open subscriptions of a broker. */
export class Subscriptions {
  readonly #open = new Set<StartableSubscription>();

  /** Starts a subscription. One that can't be started is closed. */
  async open(subscription: StartableSubscription): Promise<Subscription> {
    this.#open.add(subscription);
    try {
      await subscription.start();
    } catch (error) {
      this.#open.delete(subscription);
      await subscription.close();
      throw error;
    }
    return subscription;
  }

  /** Closes them all at the same time: each waits for its own handlers. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((subscription) => subscription.close()));
    this.#open.clear();
  }
}
