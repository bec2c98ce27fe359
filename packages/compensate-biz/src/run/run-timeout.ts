import type { RunningRow } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import { HandlerTimeoutError } from '../errors.ts';

/** The type's timeout over one call of a handler, with all rows of the call. */
export interface RunTimeout {
  /** The signal of one row: it aborts when the row's own signal does, and when the time is up. */
  signal(running: RunningRow): AbortSignal;
  /** Resolves as the promise does, or rejects when the time is up. The time starts with the first call. */
  race<T>(promise: Promise<T>): Promise<T>;
  /** True once the time is up. */
  readonly expired: boolean;
  clear(): void;
}

/** Makes the timeout. The timer and the signals are made only when something needs them. */
export function runTimeout(rows: readonly RunningRow[], type: BizType<unknown, unknown>): RunTimeout {
  let signals: Map<RunningRow, AbortSignal> | undefined;
  let controller: AbortController | undefined;
  let reason: Error | undefined;
  let timer: NodeJS.Timeout | undefined;
  let late: Promise<never> | undefined;
  return {
    get expired() {
      return reason !== undefined;
    },
    signal(running) {
      controller ??= new AbortController();
      if (reason) controller.abort(reason);
      signals ??= new Map();
      let signal = signals.get(running);
      if (!signal) signals.set(running, (signal = AbortSignal.any([running.signal, controller.signal])));
      return signal;
    },
    race(promise) {
      late ??= new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          const [first] = rows;
          const more = rows.length > 1 ? ` and ${rows.length - 1} more` : '';
          reason = new HandlerTimeoutError(first?.row.kind ?? '', `${first?.row.id}${more}`, type.timeoutMs);
          controller?.abort(reason);
          reject(reason);
        }, type.timeoutMs);
      });
      return Promise.race([promise, late]);
    },
    clear() {
      clearTimeout(timer);
    },
  };
}
