/** The scope of a pool's slots in `holdfast_slot`. */
export function slotScope(pool: string): string {
  return `runner/${pool}`;
}

/** The scope of the one slot that stands for a pool's memory. Locking it serialises the claims of the pool. */
export function budgetScope(pool: string): string {
  return `runner/${pool}/memory`;
}
