import type { Service } from './service.ts';

/**
 * Makes a service of its two steps. Calls to `start` and `stop` are queued, so that any number of callers may start and stop it at once. A
 * call that would change nothing runs no step.
 */
export function lifecycle(steps: { readonly start: () => void | Promise<void>; readonly stop: () => Promise<void> }): Service {
  let running = false;
  let last: Promise<void> = Promise.resolve();
  const enqueue = (step: () => Promise<void>): Promise<void> => {
    const next = last.then(step);
    last = next.catch(() => undefined);
    return next;
  };
  const stop = (): Promise<void> =>
    enqueue(async () => {
      if (!running) return;
      await steps.stop();
      running = false;
    });
  return {
    start: () =>
      enqueue(async () => {
        if (running) return;
        await steps.start();
        running = true;
      }),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
