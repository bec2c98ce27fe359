/**
 * The monotonic clock, in ms, for measuring durations. The database's clock decides what is due or expired.
 * (The clock also runs while the process is stopped, so that a deadline on it expires as it should.)
 */
export function monotonicMs(): number {
  return performance.now();
}
