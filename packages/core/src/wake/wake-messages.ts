import { uuidv7 } from '../ids/uuidv7.ts';

/** A wake-up as another process sent it. */
export interface WakeMessage {
  readonly channel: string;
  /** Empty if everything is to be read again. */
  readonly notes: readonly string[];
}

/**
 * The wake-ups that one process sends to others as text: gathered for 2 ms, one message for each channel. A wake-up without a note asks for
 * everything to be read again; so do more notes than a message may hold.
 */
export class WakeMessages {
  readonly #sender = uuidv7();
  readonly #maxNotes: number;
  readonly #flush: () => void;
  /** Notes by channel; `undefined` asks for everything. */
  readonly #due = new Map<string, string[] | undefined>();

  /** @param flush called 2 ms after the first wake-up since the last {@link take} */
  constructor(maxNotes: number, flush: () => void) {
    this.#maxNotes = maxNotes;
    this.#flush = flush;
  }

  /** Adds a wake-up. */
  add(channel: string, note: string | undefined): void {
    if (this.#due.size === 0) setTimeout(this.#flush, 2).unref();
    const notes = this.#due.has(channel) ? this.#due.get(channel) : [];
    const all = note === undefined || notes === undefined || notes.length >= this.#maxNotes;
    this.#due.set(channel, all ? undefined : [...notes, note]);
  }

  /** Returns the messages to send, and forgets them. */
  take(): readonly string[] {
    const messages = [...this.#due].map(([channel, notes]) => [this.#sender, channel, ...(notes ?? [])].join('\n'));
    this.#due.clear();
    return messages;
  }

  /** Reads a message of another process. Returns `undefined` for a message of this one, whose listeners the local waker has called. */
  read(message: string): WakeMessage | undefined {
    const [sender, channel = '', ...notes] = message.split('\n');
    return sender === this.#sender ? undefined : { channel, notes };
  }
}
