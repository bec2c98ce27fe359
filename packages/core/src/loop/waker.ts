/**
 * Carries the news that there may be work. A hint: losing one costs latency, never work, since every loop also polls.
 */
export interface Waker {
  /** Tells listeners of `channel`, in whatever processes this waker reaches. Never throws, never waits. */
  wake(channel: string): void;
  /** Calls `listener` at each hint; returns the function that removes it. */
  listen(channel: string, listener: () => void): () => void;
  /** Whether hints of other processes arrive at present; if not, loops poll more often. */
  readonly reliable: boolean;
  close(): Promise<void>;
}
