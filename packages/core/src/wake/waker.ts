/** Called when there may be something to do. Called too often, it must do no harm. */
export type WakeListener = (notes: readonly string[]) => void;

/**
 * Carries the news that there may be work. A hint: losing one costs latency, never work, since every loop also polls.
 */
export interface Waker {
  /**
   * Tells listeners of `channel`, in whatever processes this waker reaches. Never throws, never waits. `note` says what is
   * new (without a line break, at most a hundred characters or so); where it can't be carried, the wake-up comes without.
   */
  wake(channel: string, note?: string): void;
  /** Calls `listener` at each hint, with the notes that came; none: look at everything. Returns the function that removes it. */
  listen(channel: string, listener: WakeListener): () => void;
  /** Whether hints of other processes arrive at present; if not, loops poll more often. */
  readonly reliable: boolean;
  /** Closes what was opened. */
  close(): Promise<void>;
}
