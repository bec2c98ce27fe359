import { InvalidArgumentError } from '../errors/errors.ts';
import { decodeSnowflake } from './snowflake.ts';

/** A library's generator of snowflake ids, such as `SnowflakeId` of npm's `snowflake-id`. */
export interface SnowflakeGenerator {
  /** The next id, a whole number: 41 bits of ms since the generator's offset, 10 bits of worker id, 12 bits of sequence. */
  generate(): string | bigint;
}

/**
 * Passes on the ids of a generator that may repeat some: only those that are greater than the last one, and of a time that is allowed. An id
 * that is not is dropped.
 */
export class SnowflakeGuard {
  readonly #generator: SnowflakeGenerator;
  readonly #workerId: number;
  readonly #workerBits: bigint;
  readonly #offset: number;
  #last: bigint;
  #greatest: bigint;

  /**
   * @param options.offset that of the generator, in ms since 1970
   * @param options.after ids are of a later time than this, in ms since 1970
   * @param options.until see `allowUntil`
   */
  constructor(options: {
    readonly generator: SnowflakeGenerator;
    readonly workerId: number;
    readonly offset: number;
    readonly after: number;
    readonly until: number;
  }) {
    this.#generator = options.generator;
    this.#workerId = options.workerId;
    this.#workerBits = BigInt(options.workerId) << 12n;
    this.#offset = options.offset;
    this.#last = this.#greatestOf(options.after);
    this.#greatest = this.#greatestOf(options.until);
  }

  /** Sets the last time, in ms since 1970, that an id may have. */
  allowUntil(ms: number): void {
    this.#greatest = this.#greatestOf(ms);
  }

  /** The time of the last id, in ms since 1970. */
  get lastMs(): number {
    return this.#last < 0n ? this.#offset : decodeSnowflake(this.#last, this.#offset).timeMs;
  }

  /**
   * Asks the generator once. Returns its id, or why the id was dropped: `'behind'` if it is not greater than the last one, `'beyond'` if its
   * time is not allowed yet.
   * @throws InvalidArgumentError if the id is of another worker id, or not a whole number
   */
  ask(): bigint | 'behind' | 'beyond' {
    const id = whole(this.#generator.generate());
    if ((id & workerMask) !== this.#workerBits)
      throw new InvalidArgumentError(
        `The generator made ${id}, whose worker id is ${decodeSnowflake(id).workerId}; ${this.#workerId} is leased. Hand the worker id on to the generator, as in (mid, offset) => new SnowflakeId({ mid, offset }).`,
      );
    if (id > this.#greatest) return 'beyond';
    if (id <= this.#last) return 'behind';
    this.#last = id;
    return id;
  }

  /**
   * Asks the generator once, and drops the id. Its time must be that of the process's clock, to a second.
   * @throws InvalidArgumentError if it is not, or as `ask` does
   */
  check(): void {
    const from = Date.now();
    const id = whole(this.#generator.generate());
    const { timeMs } = decodeSnowflake(id, this.#offset);
    if (timeMs < from - 1_000 || timeMs > Date.now() + 1_000)
      throw new InvalidArgumentError(
        `The generator made ${id}, whose time is ${timeMs} ms since 1970 by the offset ${this.#offset}, and the clock says ${from}. Hand the offset on to the generator, as in (mid, offset) => new SnowflakeId({ mid, offset }); its ids must have 41 bits of ms, 10 of worker id, 12 of sequence.`,
      );
  }

  /** The greatest id of a time, in ms since 1970; -1 if ids have no such time. */
  #greatestOf(ms: number): bigint {
    return ms < this.#offset ? -1n : (BigInt(ms - this.#offset + 1) << 22n) - 1n;
  }
}

const workerMask = 1023n << 12n;

function whole(id: unknown): bigint {
  if (typeof id === 'bigint' && id >= 0n) return id;
  if (typeof id === 'string' && /^\d{1,20}$/.test(id)) return BigInt(id);
  throw new InvalidArgumentError(
    `The generator returned ${JSON.stringify(String(id).slice(0, 100))} of type ${typeof id}; it must return a whole number as decimal text or bigint.`,
  );
}
