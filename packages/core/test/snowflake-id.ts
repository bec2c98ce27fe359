import { createRequire } from 'node:module';
import type { SnowflakeGenerator } from '../src/index.ts';

/** npm's `snowflake-id`, as it is installed. */
export const SnowflakeId = createRequire(import.meta.url)('snowflake-id').default as new (options: {
  readonly mid: number;
  readonly offset: number;
}) => SnowflakeGenerator & { generate(): string };

/**
 * `snowflake-id` 1.1.0, step by step, with its faults: it is fast enough for a million ids in a test, which takes the library half a minute. A test compares
 * the two.
 */
export class FastSnowflakeId implements SnowflakeGenerator {
  readonly #mid: bigint;
  readonly #offset: number;
  #sequence = 0;
  #lastTime = 0;

  constructor({ mid, offset }: { readonly mid: number; readonly offset: number }) {
    this.#mid = BigInt((mid || 1) % 1023) << 12n;
    this.#offset = offset;
  }

  generate(): bigint {
    const time = Date.now();
    this.#sequence = this.#lastTime === time ? this.#sequence + 1 : 0;
    if (this.#sequence > 4095) {
      this.#sequence = 0;
      while (Date.now() <= time) {
        // Waits, and then makes ids of the time before.
      }
    }
    this.#lastTime = time;
    return (BigInt(time - this.#offset) << 22n) | this.#mid | BigInt(this.#sequence);
  }
}
