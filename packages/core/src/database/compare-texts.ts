/**
 * Orders texts by their UTF-16 code units, as `sort()` does. All transactions that lock several keys lock them in this order, so that none of
 * them deadlock.
 */
export function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
