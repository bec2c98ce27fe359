import type { RunningRow } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import { HandlerTimeoutError } from '../errors.ts';

/** The type's timeout over one run. The timer and the signal are made only when something needs them. */
export function runTimeout(
  running: RunningRow,
  type: BizType<unknown, unknown>,
): { signal(): AbortSignal; race<T>(promise: Promise<T>): Promise<T>; clear(): void } {
  let controller: AbortController | undefined;
  let timer: NodeJS.Timeout | undefined;
  let signal: AbortSignal | undefined;
  let reason: Error | undefined;
  return {
    signal() {
      if (!signal) {
        controller = new AbortController();
        if (reason) controller.abort(reason);
        signal = AbortSignal.any([running.signal, controller.signal]);
      }
      return signal;
    },
    race(promise) {
      let fail: (error: Error) => void = () => undefined;
      const late = new Promise<never>((_, reject) => {
        fail = reject;
      });
      timer = setTimeout(() => {
        reason = new HandlerTimeoutError(running.row.kind, running.row.id, type.timeoutMs);
        controller?.abort(reason);
        fail(reason);
      }, type.timeoutMs);
      return Promise.race([promise, late]);
    },
    clear() {
      clearTimeout(timer);
    },
  };
}
