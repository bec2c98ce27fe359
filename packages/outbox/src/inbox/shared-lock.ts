/** A shared/exclusive lock: `together` is shared, `alone` is exclusive. A waiting `alone` keeps later calls of `together` waiting. */
export class SharedLock {
  #together = 0;
  #alone = 0;
  #tail: Promise<void> = Promise.resolve();
  #quiet: (() => void)[] = [];

  async together<T>(fn: () => Promise<T>): Promise<T> {
    while (this.#alone > 0) await this.#tail;
    this.#together += 1;
    try {
      return await fn();
    } finally {
      this.#together -= 1;
      if (this.#together === 0) for (const resolve of this.#quiet.splice(0)) resolve();
    }
  }

  async alone<T>(fn: () => Promise<T>): Promise<T> {
    this.#alone += 1;
    const before = this.#tail;
    let release = (): void => undefined;
    this.#tail = new Promise<void>((resolve) => {
      release = resolve;
    });
    await before;
    while (this.#together > 0) await new Promise<void>((resolve) => this.#quiet.push(resolve));
    try {
      return await fn();
    } finally {
      this.#alone -= 1;
      release();
    }
  }
}
