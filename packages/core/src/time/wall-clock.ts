/**
 * This machine's wall clock, in ms since 1970. It jumps when it is set, and continues behind a suspend: for comparing with times of other
 * machines. {@link monotonicMs} is for durations, and the database's clock decides what is due or expired.
 */
export function wallClockMs(): number {
  return Date.now();
}
