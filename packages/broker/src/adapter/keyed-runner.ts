import { startTimer, wait } from '@holdfast/core';
import type { Message } from '../port/message.ts';
import type { Delivery, DeliveryVerdict } from '../port/subscriber.ts';
import type { Handle } from './handling.ts';

/** Options of a {@link KeyedRunner}. */
export interface KeyedRunnerOptions {
  /** The most handlers that run at a time. */
  readonly concurrency: number;
  /** Handles one delivery; `handling` makes it of a user's handler. Must not reject. */
  readonly handle: Handle;
}

/** One delivery, and how its verdict reaches the broker. */
export interface KeyedWork {
  readonly message: Message;
  readonly attempt: number;
  readonly at: Delivery['at'];
  /** Aborts when another member takes the delivery over. */
  readonly signal?: AbortSignal;
  /**
   * Called with a verdict, and the number of the delivery that it is about. Must not throw. Resolves with `undefined` when the verdict has
   * reached the broker, or with a `retry` if the delivery is to wait here and be handled again: it has no place elsewhere, or the broker did
   * not take the verdict. It is called with `retry` only for a message without a key, or after `signal` aborted: a message with a key waits
   * here anyway.
   */
  readonly settle: (verdict: DeliveryVerdict, attempt: number) => Promise<DeliveryVerdict | undefined> | DeliveryVerdict | undefined;
}

interface Queued extends KeyedWork {
  tries: number;
}

interface Lane {
  readonly name: string;
  queue: Queued[];
  running: boolean;
}

/**
 * Runs deliveries concurrently; deliveries of one topic and key run one after another, in the order of their arrival. When a message
 * with a key is to be retried, only its key waits: the message stays here without a verdict, so that after a crash it is delivered again.
 */
export class KeyedRunner {
  readonly #options: KeyedRunnerOptions;
  readonly #lanes = new Map<string, Lane>();
  readonly #ready: Lane[] = [];
  readonly #closing = new AbortController();
  #running = 0;
  #unkeyed = 0;
  #idle: (() => void)[] = [];

  constructor(options: KeyedRunnerOptions) {
    this.#options = options;
  }

  /** The number of deliveries without a final verdict. */
  get pending(): number {
    let queued = 0;
    for (const lane of this.#lanes.values()) queued += lane.queue.length;
    return queued;
  }

  /** Queues a delivery behind the earlier ones of its key. */
  push(work: KeyedWork): void {
    if (this.#closing.signal.aborted) return;
    const { key, topic } = work.message;
    const name = key === undefined ? `#${this.#unkeyed++}` : `${topic} ${key}`;
    const lane = this.#lanes.get(name);
    if (lane) {
      lane.queue.push({ ...work, tries: work.attempt });
      return;
    }
    const fresh: Lane = { name, queue: [{ ...work, tries: work.attempt }], running: false };
    this.#lanes.set(name, fresh);
    this.#ready.push(fresh);
    this.#pump();
  }

  /** Removes and returns the matching deliveries whose handlers do not run. */
  drop(matches: (work: KeyedWork) => boolean): KeyedWork[] {
    const dropped: KeyedWork[] = [];
    for (const lane of [...this.#lanes.values()]) {
      const kept = lane.queue.filter((work, i) => {
        if ((i === 0 && lane.running) || !matches(work)) return true;
        dropped.push(work);
        return false;
      });
      lane.queue = kept;
      if (kept.length > 0) continue;
      this.#lanes.delete(lane.name);
      const at = this.#ready.indexOf(lane);
      if (at >= 0) this.#ready.splice(at, 1);
    }
    return dropped;
  }

  /** Removes deliveries that have not started, then waits up to `graceMs` for running handlers before their signals abort. */
  async close(graceMs: number): Promise<void> {
    if (this.#closing.signal.aborted) return;
    for (const [name, lane] of this.#lanes) {
      if (this.#ready.includes(lane)) this.#lanes.delete(name);
      else lane.queue.splice(1);
    }
    this.#ready.length = 0;
    await this.#quiet(graceMs);
    this.#closing.abort(new Error('The subscription is closing and has waited long enough; the message will be delivered again.'));
    // A handler that ignores its signal is given up after a second.
    await this.#quiet(1_500);
  }

  async #quiet(withinMs: number): Promise<void> {
    let late = false;
    const timer = startTimer(withinMs, () => {
      late = true;
      this.#wakeIdle();
    });
    while (this.#running > 0 && !late) await new Promise<void>((resolve) => this.#idle.push(resolve));
    timer.clear();
  }

  #wakeIdle(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  #pump(): void {
    while (this.#running < this.#options.concurrency) {
      const lane = this.#ready.shift();
      if (!lane) return;
      this.#running += 1;
      lane.running = true;
      void this.#run(lane).finally(() => {
        this.#running -= 1;
        lane.running = false;
        this.#wakeIdle();
        this.#pump();
      });
    }
  }

  async #run(lane: Lane): Promise<void> {
    const [work] = lane.queue;
    if (!work) return;
    const closing = this.#closing.signal;
    const signal = work.signal ? AbortSignal.any([closing, work.signal]) : closing;
    const verdict = await this.#options.handle({ message: work.message, attempt: work.tries, at: work.at, signal });
    if (closing.aborted && verdict.outcome === 'retry') return;
    const waits = verdict.outcome === 'retry' && work.message.key !== undefined && !signal.aborted;
    const again = waits ? verdict : await work.settle(verdict, work.tries);
    if (again?.outcome === 'retry' && !signal.aborted) {
      work.tries += 1;
      wait(again.afterMs, signal).then(
        () => {
          // The lane was dropped while the message waited.
          if (this.#lanes.get(lane.name) !== lane || lane.running || this.#ready.includes(lane)) return;
          this.#ready.push(lane);
          this.#pump();
        },
        () => undefined,
      );
      return;
    }
    // After `signal` aborted, another member has it. The caller who aborted drops the deliveries behind it.
    lane.queue.shift();
    if (lane.queue.length > 0 && !closing.aborted) this.#ready.push(lane);
    else this.#lanes.delete(lane.name);
  }
}
