/** Called when there may be work. It must be harmless to call it more often than needed. */
export type WakeListener = (notes: readonly string[]) => void;

/**
 * Tells processes that there may be work. A wake-up is a hint: if it is lost, the work is done later, since every loop also polls.
 */
export interface Waker {
  /**
   * Wakes the listeners of `channel` in the processes that this waker reaches. It never throws and never waits. `note` names what is new: at
   * most about 100 characters, no line break. A waker may drop the note; the listener then reads everything.
   */
  wake(channel: string, note?: string): void;
  /** Calls `listener` at each wake-up, with its notes. Without notes the listener reads everything. Returns the function that removes it. */
  listen(channel: string, listener: WakeListener): () => void;
  /** True if wake-ups of other processes arrive at present. If not, loops poll more often. */
  readonly reliable: boolean;
  /** Closes the connections that this waker opened. */
  close(): Promise<void>;
}
