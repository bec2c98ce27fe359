import { monotonicMs } from './monotonic.ts';

/** The longest delay of a timer of Node: 24.8 days. A timer that is set for longer fires at once. */
const longestMs = 2 ** 31 - 1;

/** A timer that {@link startTimer} has started. */
export interface Timer {
  /** Stops it. Does nothing if it has fired. */
  clear(): void;
  /** Lets the process end before it fires. */
  unref(): this;
}

/** Calls `fn` once after `ms`, which may be any length: `setTimeout` fires at once if it is set for longer than 24.8 days. */
export function startTimer(ms: number, fn: () => void): Timer {
  return new LongTimer(ms, fn);
}

class LongTimer implements Timer {
  readonly #end: number;
  readonly #fn: () => void;
  #node: NodeJS.Timeout | undefined;
  #held = true;

  constructor(ms: number, fn: () => void) {
    this.#end = monotonicMs() + ms;
    this.#fn = fn;
    this.#set(ms);
  }

  clear(): void {
    clearTimeout(this.#node);
  }

  unref(): this {
    this.#held = false;
    this.#node?.unref();
    return this;
  }

  #set(ms: number): void {
    this.#node = setTimeout(ms > longestMs ? () => this.#set(this.#end - monotonicMs()) : this.#fn, Math.min(ms, longestMs));
    if (!this.#held) this.#node.unref();
  }
}

/** A signal that aborts after `ms`, which may be any length, with a TimeoutError, as `AbortSignal.timeout`. It does not keep the process alive. */
export function timeoutSignal(ms: number): AbortSignal {
  const controller = new AbortController();
  startTimer(ms, () => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'))).unref();
  return controller.signal;
}
