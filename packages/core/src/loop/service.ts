/** Something that runs until it is stopped. */
export interface Service extends AsyncDisposable {
  /** Begins; a second call does nothing. */
  start(): Promise<void>;
  /** Ends in good order and resolves when quiet. May be called before `start`, and again. */
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
