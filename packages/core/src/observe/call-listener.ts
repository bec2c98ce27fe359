/**
 * Calls a function of the service's without waiting for it: a listener, a hook, a method of its logger. An error that it throws goes to
 * `onError`, and so does one with which the promise that it returned rejects. Without a handler that rejection would end the process.
 */
export function callListener(call: () => unknown, onError: (error: unknown) => void): void {
  try {
    const result = call();
    if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function') Promise.resolve(result).catch(onError);
  } catch (error) {
    onError(error);
  }
}
