import { InvalidArgumentError } from '../errors/errors.ts';
import { type Duration, durationMs } from './duration.ts';

interface Part {
  /** Delay before the n-th retry of this part, n from 1. */
  readonly delay: (n: number) => number;
  /** The number of retries of this part. */
  readonly count: number;
  /** Up to this fraction of each delay is added at random. */
  readonly jitter: number;
}

/**
 * An immutable schedule of retries. `delayMs(attempt)` returns how long to wait after that attempt has failed (1 is the first), or
 * `undefined` if there is no further attempt.
 *
 * ```ts
 * steps('3s', '9s', '27s', '81s').then(every('30m').jitter(0.1).upTo(10))   // five attempts quickly, then up to ten in all
 * exponential({ first: '5s', factor: 3, cap: '10m' }).upTo(8)
 * ```
 */
export class Backoff {
  readonly #parts: readonly Part[];
  readonly #maxAttempts: number;

  constructor(parts: readonly Part[], maxAttempts: number = Number.POSITIVE_INFINITY) {
    this.#parts = parts;
    this.#maxAttempts = maxAttempts;
  }

  /** The number of attempts, the first included; `Infinity` if the schedule never ends. */
  get maxAttempts(): number {
    return Math.min(this.#maxAttempts, 1 + this.#parts.reduce((sum, part) => sum + part.count, 0));
  }

  /** Milliseconds between the end of attempt number `attempt` and the next one; `undefined` if it was the last. */
  delayMs(attempt: number, random: () => number = Math.random): number | undefined {
    if (!Number.isInteger(attempt) || attempt < 1) throw new InvalidArgumentError(`attempt is ${attempt}; attempts count from 1.`);
    if (attempt >= this.#maxAttempts) return undefined;
    let n = attempt;
    for (const part of this.#parts) {
      if (n <= part.count) return Math.round(part.delay(n) * (1 + part.jitter * random()));
      n -= part.count;
    }
    return undefined;
  }

  /** Limits the last part to `n` retries. */
  times(n: number): Backoff {
    positive('times', n);
    const parts = this.#parts.map((part, i) => (i === this.#parts.length - 1 ? { ...part, count: Math.min(part.count, n) } : part));
    return new Backoff(parts, this.#maxAttempts);
  }

  /** Continues with `other` when this schedule has ended. A limit of `other` in attempts (`upTo`) counts the attempts of both. */
  // biome-ignore lint/suspicious/noThenProperty: it reads as the schedule does; a schedule is never awaited
  then(other: Backoff): Backoff {
    if (this.#parts.some((part) => part.count === Number.POSITIVE_INFINITY)) {
      throw new InvalidArgumentError('then() follows a schedule that never ends; give that one a limit with times(n) first.');
    }
    const own = Number.isFinite(this.#maxAttempts) ? this.#cut() : this.#parts;
    return new Backoff([...own, ...other.#parts], other.#maxAttempts);
  }

  /** Limits the schedule to `n` attempts in all, the first included. */
  upTo(n: number): Backoff {
    positive('upTo', n);
    return new Backoff(this.#parts, Math.min(this.#maxAttempts, n));
  }

  /** Lengthens each delay at random by up to `fraction` of it. A schedule that is added with `then` later keeps its own jitter. */
  jitter(fraction: number): Backoff {
    if (!(fraction >= 0 && fraction <= 1)) throw new InvalidArgumentError(`jitter is ${fraction}; give a fraction from 0 to 1.`);
    return new Backoff(
      this.#parts.map((part) => ({ ...part, jitter: fraction })),
      this.#maxAttempts,
    );
  }

  #cut(): readonly Part[] {
    let left = this.#maxAttempts - 1;
    return this.#parts.map((part) => {
      const count = Math.min(part.count, left);
      left -= count;
      return { ...part, count };
    });
  }
}

/** One retry after each of the given delays. */
export function steps(...delays: Duration[]): Backoff {
  const ms = delays.map((delay, i) => durationMs(delay, `step ${i + 1}`));
  return new Backoff([{ jitter: 0, count: ms.length, delay: (n) => ms[n - 1] ?? 0 }]);
}

/** Delays that grow by `factor` (default 2) from `first` up to `cap` (default 1 h), without end unless limited. */
export function exponential(options: { readonly first: Duration; readonly factor?: number; readonly cap?: Duration }): Backoff {
  const first = durationMs(options.first, 'first');
  const cap = durationMs(options.cap ?? '1h', 'cap');
  const factor = options.factor ?? 2;
  if (!(factor >= 1)) throw new InvalidArgumentError(`factor is ${factor}; it must be at least 1.`);
  return new Backoff([{ jitter: 0, count: Number.POSITIVE_INFINITY, delay: (n) => Math.min(cap, first * factor ** (n - 1)) }]);
}

/** The same delay before every retry, without end unless limited. */
export function every(delay: Duration): Backoff {
  const ms = durationMs(delay, 'every');
  return new Backoff([{ jitter: 0, count: Number.POSITIVE_INFINITY, delay: () => ms }]);
}

function positive(what: string, n: number): void {
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError(`${what}(${n}): give a whole number of at least 1.`);
}
