import { type Database, type Logger, type Waker, Wakers } from '@holdfast/core';
import { RunNews, type RunWatch } from './run-news.ts';

/** Notes of the wakers: a pool to look at, a run of which readers can hear more, a run that is to stop. */
const poolNote = 'pool:';
const runNote = 'run:';
const stopNote = 'stop:';
/** Other processes hear of a run so much later: a hello-world changes six times in forty milliseconds, and each NOTIFY is a commit. */
const tellMs = 20;

export interface RunWakesOptions {
  readonly database: Database;
  readonly waker?: Waker | undefined;
  /** Names of all pools. */
  readonly pools: () => Iterable<string>;
  readonly logger: Logger;
}

/** What of runs and pools is told between the parts of a runner, in this process and in others. */
export class RunWakes {
  readonly #options: RunWakesOptions;
  readonly #wakers: Wakers;
  readonly #news: RunNews;
  /** For workers: they know of all other changes, which are theirs. */
  readonly #orders: RunNews;
  readonly #poolListeners = new Set<(pool: string) => void>();
  readonly #untold = new Set<string>();
  #telling: NodeJS.Timeout | undefined;
  #unlisten: (() => void) | undefined;
  #closed = false;

  constructor(options: RunWakesOptions) {
    const { database, waker, logger } = options;
    this.#options = options;
    this.#wakers = new Wakers({ database, channel: 'code-runner', waker, logger });
    const heard = { listen: () => this.#listen(), reliable: () => this.#wakers.reliable };
    this.#news = new RunNews(heard);
    this.#orders = new RunNews(heard);
  }

  /** Whether hints of other processes arrive at present. */
  get reliable(): boolean {
    return this.#wakers.reliable;
  }

  /** For readers of a run. */
  watch(runId: string): RunWatch {
    return this.#news.watch(runId);
  }

  /** For the worker of a run. */
  watchOrders(runId: string): RunWatch {
    return this.#orders.watch(runId);
  }

  /** Tells readers: those of this process at once, others with what else changes within a moment. */
  changed(runId: string): void {
    this.#wakers.wakeHere(`${runNote}${runId}`);
    if (this.#closed) return;
    this.#untold.add(runId);
    this.#telling ??= setTimeout(() => this.#tell(), tellMs).unref();
  }

  /** Tells the run's worker that it is to stop. */
  stop(runId: string): void {
    this.#wakers.wake(`${stopNote}${runId}`);
  }

  ring(pool: string): void {
    this.#wakers.wake(`${poolNote}${pool}`);
  }

  /** Tells workers of other processes that there is room in a pool. */
  ringOthers(pool: string): void {
    this.#wakers.wakeElsewhere(`${poolNote}${pool}`);
  }

  onPool(heard: (pool: string) => void): () => void {
    this.#poolListeners.add(heard);
    this.#listen();
    return () => this.#poolListeners.delete(heard);
  }

  /** Tells what is still untold, and ends every wait. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#tell();
    this.#unlisten?.();
    this.#unlisten = undefined;
    this.#news.all();
    this.#orders.all();
    await this.#wakers.close();
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    for (const id of this.#untold) this.#wakers.wakeElsewhere(`${runNote}${id}`);
    this.#untold.clear();
  }

  #listen(): void {
    this.#unlisten ??= this.#wakers.listen((notes) => {
      // Without notes anything may have changed.
      if (notes.length === 0) {
        this.#news.all();
        this.#orders.all();
        for (const heard of this.#poolListeners) for (const pool of this.#options.pools()) heard(pool);
      }
      for (const note of notes) {
        if (note.startsWith(runNote)) this.#news.of(note.slice(runNote.length));
        else if (note.startsWith(stopNote)) this.#orders.of(note.slice(stopNote.length));
        else if (note.startsWith(poolNote)) for (const heard of this.#poolListeners) heard(note.slice(poolNote.length));
      }
    });
  }
}
