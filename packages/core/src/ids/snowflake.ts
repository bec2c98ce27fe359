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

/** The time from which ids count unless a service says otherwise: 2024-01-01, in ms since 1970. */
export const defaultSnowflakeOffset: number = Date.UTC(2024, 0, 1);

/**
 * Makes snowflake ids for one worker id: 41 bits of ms since `offset`, 10 bits of worker id, 12 bits of sequence. The layout is that of
 * npm's `snowflake-id`, which returns duplicates when it makes more than 4,096 ids in a millisecond and when the clock steps back. This
 * generator takes the next millisecond instead, and its time never steps back.
 */
export class SnowflakeSequence {
  readonly #workerId: bigint;
  readonly #offset: number;
  readonly #now: () => number;
  #lastMs: number;
  #sequence = 0;
  #untilMs: number;

  /**
   * @param options.mid worker id, 0 to 1023; @param options.offset the time from which ids count, in ms since 1970
   * @param options.after ids are of a later time than this, in ms since 1970: the last that an earlier holder of the worker id may have used
   * @param options.until see `allowUntil`. Default: no limit
   */
  constructor(options: {
    readonly mid: number;
    readonly offset?: number;
    readonly now?: () => number;
    readonly after?: number;
    readonly until?: number;
  }) {
    if (!Number.isInteger(options.mid) || options.mid < 0 || options.mid >= workerIds)
      throw new InvalidArgumentError(`mid is ${options.mid}; a worker id is a whole number from 0 to 1023.`);
    this.#workerId = BigInt(options.mid) << 12n;
    this.#offset = options.offset ?? 0;
    this.#now = options.now ?? Date.now;
    this.#lastMs = Math.max(0, (options.after ?? 0) - this.#offset);
    if (this.#lastMs > 0) this.#sequence = perMs;
    this.#untilMs = (options.until ?? Number.POSITIVE_INFINITY) - this.#offset;
  }

  /** Sets the last time, in ms since 1970, that an id may have. */
  allowUntil(ms: number): void {
    this.#untilMs = ms - this.#offset;
  }

  /** The time of the last id, in ms since 1970. */
  get lastMs(): number {
    return this.#lastMs + this.#offset;
  }

  /** The next id. It never waits, and never returns an id twice. @throws RangeError if every id up to the time of `allowUntil` was given */
  nextBigInt(): bigint {
    const now = this.#now() - this.#offset;
    // A clock that has jumped past the limit does not use up the ids before it.
    if (now > this.#lastMs && now <= this.#untilMs) {
      this.#lastMs = now;
      this.#sequence = 0;
    } else if (++this.#sequence >= perMs) {
      if (this.#lastMs + 1 > this.#untilMs) {
        this.#sequence = perMs;
        throw new RangeError('Every id up to the time that is allowed was given.');
      }
      this.#lastMs += 1;
      this.#sequence = 0;
    }
    return (BigInt(this.#lastMs) << 22n) | this.#workerId | BigInt(this.#sequence);
  }
}

/** Decodes an id. `offset` must be that of its generator. */
export function decodeSnowflake(id: string | bigint, offset = 0): SnowflakeParts {
  const bits = BigInt(id);
  return { timeMs: Number(bits >> 22n) + offset, workerId: Number((bits >> 12n) & 1023n), sequence: Number(bits & 4095n) };
}
