import type { Logger } from '@holdfast/core';
import type { PowerEvent } from '../../power/event.ts';
import type { Misbehaviour } from './misbehaviour.ts';

export interface MessengerOptions {
  /** Delivers events. If it throws, they are sent again later. */
  readonly send: (events: readonly PowerEvent[]) => Promise<void>;
  readonly misbehaviour: () => Misbehaviour;
  readonly random: () => number;
  readonly logger: Logger;
}

const perSend = 200;

/** Sends the power events of a room: some are lost, some come twice, each has its own delay. An event is sent until it is accepted. */
export class Messenger {
  readonly #options: MessengerOptions;
  readonly #late = new Set<NodeJS.Timeout>();
  #ready: PowerEvent[] = [];
  #sending: Promise<void> | undefined;
  #closed = false;

  constructor(options: MessengerOptions) {
    this.#options = options;
  }

  tell(event: PowerEvent): void {
    const { misbehaviour, random } = this.#options;
    const { losePercent, duplicatePercent, delayMs } = misbehaviour();
    if (random() * 100 < losePercent) return;
    const times = random() * 100 < duplicatePercent ? 2 : 1;
    for (let time = 0; time < times; time++) {
      const timer = setTimeout(() => {
        this.#late.delete(timer);
        this.#ready.push(event);
        this.#sending ??= this.#send();
      }, random() * delayMs);
      this.#late.add(timer);
    }
  }

  /** The number of events that are not delivered yet. */
  get waiting(): number {
    return this.#late.size + this.#ready.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#late) clearTimeout(timer);
    await this.#sending;
  }

  async #send(): Promise<void> {
    let pauseMs = 20;
    // Events of one turn of the event loop are sent together.
    await pause(5);
    while (this.#ready.length > 0 && !this.#closed) {
      const some = this.#ready.slice(0, perSend);
      try {
        await this.#options.send(some);
        this.#ready = this.#ready.slice(some.length);
        pauseMs = 20;
      } catch (err) {
        this.#options.logger.debug({ err, count: some.length }, 'power events were not taken; they are sent again');
        await pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, 1_000);
      }
    }
    this.#sending = undefined;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
