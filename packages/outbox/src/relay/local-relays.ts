import type { Wakers } from '@holdfast/core';
import { laneCount } from '../table/lanes.ts';
import type { Relay } from './relay.ts';

/** A committed message, as far as waking a relay needs it. */
interface CommittedMessage {
  readonly lane: number;
  /** Set for a delayed message. */
  readonly due: unknown;
}

/**
 * The relays of one outbox that run in this process. A message without a key goes to a lane of theirs where they have one, so that no
 * other process must be woken for it.
 */
export class LocalRelays {
  readonly #wakers: Wakers;
  readonly #relays = new Set<Relay>();
  #turn = 0;

  constructor(wakers: Wakers) {
    this.#wakers = wakers;
  }

  /** Adds a started relay. `listener` gets the lane of each new message, or `undefined` for all. Returns a function that removes the relay. */
  add(relay: Relay, listener: (lane: number | undefined) => void): () => void {
    this.#relays.add(relay);
    const end = this.#wakers.listen((notes) => {
      if (notes.length === 0) listener(undefined);
      for (const note of notes) listener(Number(note));
    });
    return () => {
      this.#relays.delete(relay);
      end();
    };
  }

  /** Returns the lane for a message without a key: a lane of a relay of this process, if one has any; else the next of all lanes. */
  freeLane(): number {
    for (const relay of this.#relays) {
      const lane = relay.nextLane();
      if (lane !== undefined) return lane;
    }
    return this.#turn++ % laneCount;
  }

  /** Wakes the relays that have the lanes of these messages, in this process or in others. */
  wakeFor(messages: readonly CommittedMessage[]): void {
    const lanes = new Set(messages.filter(({ due }) => !due).map(({ lane }) => lane));
    for (const lane of lanes) {
      this.#wakers.wakeHere(String(lane));
      if (![...this.#relays].some((relay) => relay.owns(lane))) this.#wakers.wakeElsewhere(String(lane));
    }
    // The relay that has the lane reads anew when the next delayed message is due.
    if (messages.some(({ due }) => due)) this.#wakers.wake();
  }

  async stop(): Promise<void> {
    for (const relay of [...this.#relays]) await relay.stop();
  }
}
