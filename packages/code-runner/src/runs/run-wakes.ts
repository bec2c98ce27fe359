import { type Database, type Logger, type Waker, Wakers } from '@holdfast/core';
import { type RunWatch, RunWatches } from './run-watches.ts';

/** Prefixes of notes: a pool may have a run to claim, a run has new events, a run is to stop. */
const poolNote = 'pool:';
const runNote = 'run:';
const stopNote = 'stop:';
/** Delay of notes about new events to other processes: a hello-world changes six times in 40 ms, and each NOTIFY is a commit. */
const flushMs = 20;

export interface RunWakesOptions {
  readonly database: Database;
  readonly waker?: Waker | undefined;
  /** Names of all pools. */
  readonly pools: () => Iterable<string>;
  readonly logger: Logger;
}

/** Wake-ups about runs and pools between the parts of a runner, in this process and in others. */
export class RunWakes {
  readonly #options: RunWakesOptions;
  readonly #wakers: Wakers;
  /** Watches of readers, woken by new events. */
  readonly #readers: RunWatches;
  /** Watches of workers, woken by a stop only: a worker makes all other changes of its runs itself. */
  readonly #stops: RunWatches;
  readonly #poolListeners = new Set<(pool: string) => void>();
  /** Runs with new events, about which other processes are still to be told. */
  readonly #unsent = new Set<string>();
  #flushTimer: NodeJS.Timeout | undefined;
  #unlisten: (() => void) | undefined;
  #closed = false;

  constructor(options: RunWakesOptions) {
    const { database, waker, logger } = options;
    this.#options = options;
    this.#wakers = new Wakers({ database, channel: 'code-runner', waker, logger });
    const source = { listen: () => this.#listen(), reliable: () => this.#wakers.reliable };
    this.#readers = new RunWatches(source);
    this.#stops = new RunWatches(source);
  }

  /** True if wake-ups of other processes arrive at present. */
  get reliable(): boolean {
    return this.#wakers.reliable;
  }

  /** Watches a run for new events. */
  watch(runId: string): RunWatch {
    return this.#readers.watch(runId);
  }

  /** Watches a run for a stop. */
  watchStop(runId: string): RunWatch {
    return this.#stops.watch(runId);
  }

  /** Wakes readers of a run: in this process at once, in others after {@link flushMs}. */
  changed(runId: string): void {
    this.#wakers.wakeHere(`${runNote}${runId}`);
    if (this.#closed) return;
    this.#unsent.add(runId);
    this.#flushTimer ??= setTimeout(() => this.#flush(), flushMs).unref();
  }

  /** Wakes the worker of a run, which then reads that the run is to stop. */
  stop(runId: string): void {
    this.#wakers.wake(`${stopNote}${runId}`);
  }

  /** Wakes the workers of a pool. */
  signalPool(pool: string): void {
    this.#wakers.wake(`${poolNote}${pool}`);
  }

  /** Wakes the workers of a pool in other processes. */
  signalOthers(pool: string): void {
    this.#wakers.wakeElsewhere(`${poolNote}${pool}`);
  }

  /** Calls the listener whenever a pool may have a run to claim. Returns a function that removes it. */
  onPoolSignal(listener: (pool: string) => void): () => void {
    this.#poolListeners.add(listener);
    this.#listen();
    return () => this.#poolListeners.delete(listener);
  }

  /** Sends what is still unsent, and wakes all watches. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#flush();
    this.#unlisten?.();
    this.#unlisten = undefined;
    this.#readers.wakeAll();
    this.#stops.wakeAll();
    await this.#wakers.close();
  }

  #flush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    for (const id of this.#unsent) this.#wakers.wakeElsewhere(`${runNote}${id}`);
    this.#unsent.clear();
  }

  #listen(): void {
    this.#unlisten ??= this.#wakers.listen((notes) => {
      // A wake-up without notes: anything may have changed.
      if (notes.length === 0) {
        this.#readers.wakeAll();
        this.#stops.wakeAll();
        for (const listener of this.#poolListeners) for (const pool of this.#options.pools()) listener(pool);
      }
      for (const note of notes) {
        if (note.startsWith(runNote)) this.#readers.wake(note.slice(runNote.length));
        else if (note.startsWith(stopNote)) this.#stops.wake(note.slice(stopNote.length));
        else if (note.startsWith(poolNote)) for (const listener of this.#poolListeners) listener(note.slice(poolNote.length));
      }
    });
  }
}
