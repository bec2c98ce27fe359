import { InvalidArgumentError } from '../errors/errors.ts';

/** The parts of a snowflake id. */
export interface SnowflakeParts {
  readonly timeMs: number;
  readonly workerId: number;
  readonly sequence: number;
}

/** The number of worker ids that fit into a snowflake id. */
export const workerIds = 1024;
const perMs = 4096;

/**
 * Makes snowflake ids for one worker id: 41 bits of ms since `offset`, 10 bits of worker id, 12 bits of sequence. The layout is that of
 * npm's `snowflake-id`, which returns duplicates when it makes more than 4,096 ids in a millisecond and when the clock steps back. This
 * generator takes the next millisecond instead, and its time never steps back.
 */
export class SnowflakeSequence {
  readonly #workerId: bigint;
  readonly #offset: number;
  readonly #now: () => number;
  #lastMs = 0;
  #sequence = 0;

  /** @param options.mid worker id, 0 to 1023; @param options.offset the time from which ids count, in ms since 1970 */
  constructor(options: { readonly mid: number; readonly offset?: number; readonly now?: () => number }) {
    if (!Number.isInteger(options.mid) || options.mid < 0 || options.mid >= workerIds)
      throw new InvalidArgumentError(`mid is ${options.mid}; a worker id is a whole number from 0 to 1023.`);
    this.#workerId = BigInt(options.mid) << 12n;
    this.#offset = options.offset ?? 0;
    this.#now = options.now ?? Date.now;
  }

  /** The next id. It never waits, and never returns an id twice. */
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

/** Decodes an id. `offset` must be that of its generator. */
export function decodeSnowflake(id: string | bigint, offset = 0): SnowflakeParts {
  const bits = BigInt(id);
  return { timeMs: Number(bits >> 22n) + offset, workerId: Number((bits >> 12n) & 1023n), sequence: Number(bits & 4095n) };
}
