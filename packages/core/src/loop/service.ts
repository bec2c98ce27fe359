/** A component that runs until it is stopped. */
export interface Service extends AsyncDisposable {
  /** Starts it. Does nothing if it runs. */
  start(): Promise<void>;
  /** Stops it, and resolves when nothing of it runs any more. May be called before `start`, and more than once. */
  stop(): Promise<void>;
}

/** Starts services in order and stops them in reverse. If one fails to start, those before it are stopped. */
export function services(list: readonly Service[]): Service {
  const stop = async (): Promise<void> => {
    for (const service of list.toReversed()) await service.stop();
  };
  return {
    async start() {
      try {
        for (const service of list) await service.start();
      } catch (error) {
        await stop();
        throw error;
      }
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
