import { idle, type RunningRow, startTimer, type Timer } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import { HandlerTimeoutError } from '../errors.ts';

/** The timeout over one call of a handler, with the signals of its rows. The timer and the signals are made only when something needs them. */
export class RunTimeout {
  readonly #type: BizType<unknown, unknown>;
  readonly #first: RunningRow;
  readonly #signals = new Map<RunningRow, AbortSignal>();
  #controller: AbortController | undefined;
  #timer: Timer | undefined;
  #reason: Error | undefined;
  #call: Promise<unknown> | undefined;
  #late: Promise<never> | undefined;

  /** @param first the row that the error of a timeout names */
  constructor(type: BizType<unknown, unknown>, first: RunningRow) {
    this.#type = type;
    this.#first = first;
  }

  /** The signal of a row: it aborts with the row's own, and when the timeout passes. */
  signal(running: RunningRow): AbortSignal {
    let signal = this.#signals.get(running);
    if (!signal) {
      if (!this.#controller) {
        this.#controller = new AbortController();
        if (this.#reason) this.#controller.abort(this.#reason);
      }
      signal = AbortSignal.any([running.signal, this.#controller.signal]);
      this.#signals.set(running, signal);
    }
    return signal;
  }

  /** True once the timeout has passed. */
  get expired(): boolean {
    return this.#reason !== undefined;
  }

  /** Settles as the call does, or rejects with HandlerTimeoutError when the timeout passes. The time starts with the first call. */
  race<T>(call: Promise<T>): Promise<T> {
    this.#call = this.#call ? Promise.allSettled([this.#call, call]) : call;
    this.#late ??= this.#start();
    return Promise.race([call, this.#late]);
  }

  #start(): Promise<never> {
    const { timeoutMs } = this.#type;
    return new Promise<never>((_, reject) => {
      this.#timer = startTimer(timeoutMs, () => {
        const { kind, id } = this.#first.row;
        this.#reason = new HandlerTimeoutError(kind, id, timeoutMs);
        this.#controller?.abort(this.#reason);
        reject(this.#reason);
      });
    });
  }

  /** Waits for a call that has run longer than the timeout, for `ms` at most. Resolves with `false` if it has still not ended. */
  async quiet(ms: number): Promise<boolean> {
    if (!this.#reason || !this.#call) return true;
    const ended = this.#call.then(
      () => true,
      () => true,
    );
    const stop = new AbortController();
    const stillRuns = idle(ms, stop.signal).then(
      () => false,
      () => true,
    );
    return Promise.race([ended, stillRuns]).finally(() => stop.abort());
  }

  clear(): void {
    this.#timer?.clear();
  }
}
