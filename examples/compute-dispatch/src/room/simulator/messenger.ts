import type { Logger } from '@holdfast/core';
import type { PowerEvent } from '../../power/event.ts';
import type { Misbehaviour } from './misbehaviour.ts';

export interface MessengerOptions {
  /** Hands events over. What it throws means: again later. */
  readonly send: (events: readonly PowerEvent[]) => Promise<void>;
  readonly misbehaviour: () => Misbehaviour;
  readonly random: () => number;
  readonly logger: Logger;
}

const perSend = 200;

/** The way of power events from a room: some are lost, some come twice, each is late by its own time; what is on its way is sent until taken. */
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

  /** Events that are not handed over yet. */
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
    // Those of this turn of the event loop go together.
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
