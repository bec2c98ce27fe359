import { InvalidArgumentError } from '../errors/errors.ts';

/** Parts of a snowflake. */
export interface SnowflakeParts {
  readonly timeMs: number;
  readonly workerId: number;
  readonly sequence: number;
}

/** Worker ids that fit into a snowflake. */
export const workerIds = 1024;
const perMs = 4096;

/**
 * The generator itself: 41 bits of ms since `offset`, 10 bits of worker id, 12 of sequence; the layout of npm's
 * `snowflake-id`, which however hands out duplicates past 4,096 ids in a millisecond and when the clock steps back.
 * This one borrows from the next millisecond instead, and never goes back.
 */
export class SnowflakeSequence {
  readonly #workerId: bigint;
  readonly #offset: number;
  readonly #now: () => number;
  #lastMs = 0;
  #sequence = 0;

  /** @param options.mid worker id, 0 to 1023; @param options.offset ms since 1970 that count as 0. */
  constructor(options: { readonly mid: number; readonly offset?: number; readonly now?: () => number }) {
    if (!Number.isInteger(options.mid) || options.mid < 0 || options.mid >= workerIds)
      throw new InvalidArgumentError(`mid is ${options.mid}; a worker id is a whole number from 0 to 1023.`);
    this.#workerId = BigInt(options.mid) << 12n;
    this.#offset = options.offset ?? 0;
    this.#now = options.now ?? Date.now;
  }

  /** The next id, as a bigint; waits for nothing, and never repeats one. */
  nextBigInt(): bigint {
    const now = this.#now() - this.#offset;
    if (now > this.#lastMs) {
      this.#lastMs = now;
      this.#sequence = 0;
    } else if (++this.#sequence >= perMs) {
      this.#lastMs += 1;
      this.#sequence = 0;
    }
    return (BigInt(this.#lastMs) << 22n) | this.#workerId | BigInt(this.#sequence);
  }

  /** How far the ids run ahead of the clock, in ms. */
  get aheadMs(): number {
    return this.#lastMs - (this.#now() - this.#offset);
  }
}

/** Takes an id apart. */
export function decodeSnowflake(id: string | bigint, offset = 0): SnowflakeParts {
  const bits = BigInt(id);
  return { timeMs: Number(bits >> 22n) + offset, workerId: Number((bits >> 12n) & 1023n), sequence: Number(bits & 4095n) };
}
