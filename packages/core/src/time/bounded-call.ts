import { CallTimeoutError } from '../errors/errors.ts';
import { startTimer } from './timer.ts';

/** Options of {@link boundedCall}. */
export interface BoundedCallOptions {
  /** The name of the function, as the service knows it. */
  readonly name: string;
  /** How long the promise that it returns is waited for, in ms. */
  readonly ms: number;
  /** Ends the wait at once when it aborts. */
  readonly signal?: AbortSignal | undefined;
  /** Makes the error of a call that took too long. Default: a CallTimeoutError, whose words are for the author of the function. */
  readonly late?: () => Error;
}

/**
 * Calls a function of the service's, or a client that may never answer, and waits for its promise no longer than `ms`. The function gets a signal that aborts when nobody waits
 * any more; what the promise becomes after that, a rejection included, is ignored. Returns no promise if the function returns none.
 * @throws CallTimeoutError or what `late` makes, `signal.reason`, or what the function throws
 */
export function boundedCall<T>(
  fn: (signal: AbortSignal) => T | PromiseLike<T>,
  { name, ms, signal, late }: BoundedCallOptions,
): T | Promise<T> {
  signal?.throwIfAborted();
  const given = new AbortController();
  const answer = fn(given.signal);
  if (!isPromise(answer)) return answer;
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.clear();
      signal?.removeEventListener('abort', aborted);
    };
    const giveUp = (reason: unknown): void => {
      end();
      reject(reason);
      given.abort(reason);
    };
    const aborted = (): void => giveUp(signal?.reason);
    const timer = startTimer(ms, () => giveUp(late ? late() : new CallTimeoutError(name, ms)));
    signal?.addEventListener('abort', aborted, { once: true });
    answer.then(
      (value) => {
        end();
        resolve(value);
      },
      (error) => {
        end();
        reject(error);
      },
    );
  });
}

/** Also of a promise of another library, such as a query of knex. */
function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined | null)?.then === 'function';
}
