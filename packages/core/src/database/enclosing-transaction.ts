import { AsyncLocalStorage } from 'node:async_hooks';

/** A transaction in whose callback code runs. */
interface Enclosing {
  /** The configuration of the knex, which its transactions share. */
  readonly config: object;
  readonly outer: Enclosing | undefined;
  open: boolean;
}

const storage = new AsyncLocalStorage<Enclosing>();

/** Runs the callback of a transaction, so that {@link isEnclosed} is true in it until it has ended. */
export function enclose<T>(config: object, callback: () => T): T {
  const enclosing: Enclosing = { config, outer: storage.getStore(), open: true };
  const end = (): void => {
    enclosing.open = false;
  };
  try {
    const result = storage.run(enclosing, callback);
    if (typeof (result as PromiseLike<unknown> | undefined)?.then !== 'function') {
      end();
      return result;
    }
    // A query of knex runs each time that its `then` is called: it must be called once, here, and the caller gets the promise.
    const once = Promise.resolve(result);
    once.then(end, end);
    return once as T;
  } catch (error) {
    end();
    throw error;
  }
}

/** Returns whether the caller runs in the callback of an open transaction of a knex with this configuration. */
export function isEnclosed(config: object): boolean {
  for (let at = storage.getStore(); at; at = at.outer) if (at.open && at.config === config) return true;
  return false;
}
