/**
 * Milliseconds that only ever grow. For measuring durations; what is due or expired is decided by the database's clock.
 * (The process may be stopped for an hour: this clock shows it, so a deadline kept on it expires as it should.)
 */
export function monotonicMs(): number {
  return performance.now();
}
