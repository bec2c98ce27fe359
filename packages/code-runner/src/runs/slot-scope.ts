/** The scope of a pool's slots. */
export function slotScope(pool: string): string {
  return `runner/${pool}`;
}

/** One slot that stands for a pool's memory. */
export function budgetScope(pool: string): string {
  return `runner/${pool}/memory`;
}
