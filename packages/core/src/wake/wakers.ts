import type { Database } from '../database/database.ts';
import { callListener } from '../observe/call-listener.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import type { Logger } from '../observe/logger.ts';
import { localWaker } from './local-waker.ts';
import { joinWaker, type SharedWaker } from './shared-waker.ts';
import type { WakeListener, Waker } from './waker.ts';

/** The channel, and the ways by which it reaches other processes. */
export interface WakersOptions {
  readonly database: Database;
  readonly channel: string;
  /** Wakes other processes. Default: LISTEN on Postgres, the version of the file on SQLite, none on MySQL and MariaDB. */
  readonly waker?: Waker | undefined;
  readonly logger: Logger;
}

/** One channel of wake-ups: to this process always, and to other processes where there is a waker for them. */
export class Wakers {
  readonly #options: WakersOptions;
  readonly #local: Waker;
  #listening = 0;
  #shared: SharedWaker | undefined;
  #closed = false;

  constructor(options: WakersOptions) {
    this.#options = { ...options, logger: guardLogger(options.logger) };
    this.#local = localWaker(options.database.knex.client as object);
  }

  /** True if wake-ups of other processes arrive at present. */
  get reliable(): boolean {
    return this.#others?.reliable ?? false;
  }

  /** Wakes the listeners in this process. */
  wakeHere(note?: string): void {
    this.#local.wake(this.#options.channel, note);
  }

  /** Wakes the listeners in other processes. */
  wakeElsewhere(note?: string): void {
    // The service may have made the waker itself: an error of it must not reach the caller.
    callListener(
      () => this.#others?.wake(this.#options.channel, note),
      (error) => this.#options.logger.debug({ err: error }, 'a wake-up was not sent'),
    );
  }

  /** Wakes the listeners in this process and in others. */
  wake(note?: string): void {
    this.wakeHere(note);
    this.wakeElsewhere(note);
  }

  /** Calls the listener at each wake-up of the channel. Returns the function that removes it. */
  listen(listener: WakeListener): () => void {
    this.#listening += 1;
    const ends = [
      // Before the waker, which then listens on a connection of the loops.
      this.#options.database.runLoops(),
      this.#local.listen(this.#options.channel, listener),
      this.#others?.listen(this.#options.channel, listener),
    ];
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#listening -= 1;
      for (const end of ends) end?.();
    };
  }

  /** Gives up the waker that packages share. A waker that was given stays open. Later wake-ups reach this process only. */
  async close(): Promise<void> {
    this.#closed = true;
    const shared = this.#shared;
    this.#shared = undefined;
    await shared?.leave();
  }

  get #others(): Waker | undefined {
    const { database, waker, logger } = this.#options;
    if (waker) return waker;
    // A transaction may commit after `close`: a waker that is made then would hold a connection that nobody closes.
    if (this.#closed) return undefined;
    // On SQLite other processes detect the commit itself, so that only a listener needs the waker.
    if (database.family !== 'sqlite' || this.#listening > 0) this.#shared ??= joinWaker(database, logger);
    return this.#shared?.waker;
  }
}
