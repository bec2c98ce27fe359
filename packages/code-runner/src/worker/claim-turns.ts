import type { Logger } from '@holdfast/core';

/** Claims of each pool, one at a time: calls during a claim share one further claim after it. */
export class ClaimTurns {
  readonly #claim: (pool: string) => Promise<boolean>;
  readonly #logger: Logger;
  readonly #current = new Map<string, Promise<boolean>>();
  readonly #again = new Set<string>();

  /** `claim` claims as many runs of a pool as the worker can take, and returns whether the worker could take more. */
  constructor(claim: (pool: string) => Promise<boolean>, logger: Logger) {
    this.#claim = claim;
    this.#logger = logger;
  }

  /** Returns whether the worker could take more; true if the claim failed, which is logged. */
  claim(pool: string): Promise<boolean> {
    const current = this.#current.get(pool);
    if (current) {
      this.#again.add(pool);
      return current;
    }
    const claim = this.#claim(pool)
      .catch((err) => {
        this.#logger.warn({ err, pool }, 'runs could not be claimed; retrying');
        return true;
      })
      .finally(() => {
        this.#current.delete(pool);
        if (this.#again.delete(pool)) void this.claim(pool);
      });
    this.#current.set(pool, claim);
    return claim;
  }

  /** Resolves when the claims that are under way have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#current.values());
  }
}
