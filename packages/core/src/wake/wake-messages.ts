import { uuidv7 } from '../ids/uuidv7.ts';

/** A wake-up from another process. */
export interface WakeMessage {
  readonly channel: string;
  /** Empty if everything is to be read again. */
  readonly notes: readonly string[];
}

/**
 * The wake-ups that one process sends to others as text. They are collected for 2 ms, and each channel gets one message. A wake-up without a
 * note asks the receiver to read everything again, as does a message with more notes than it may hold.
 */
export class WakeMessages {
  readonly #sender = uuidv7();
  readonly #maxNotes: number;
  readonly #flush: () => void;
  /** Notes by channel; `undefined` asks the receiver to read everything. */
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

  /** Removes the messages to send, and returns them. */
  take(): readonly string[] {
    const messages = [...this.#due].map(([channel, notes]) => [this.#sender, channel, ...(notes ?? [])].join('\n'));
    this.#due.clear();
    return messages;
  }

  /** Parses a message. Returns `undefined` for a message that this process sent: the local waker has called its listeners. */
  read(message: string): WakeMessage | undefined {
    const [sender, channel = '', ...notes] = message.split('\n');
    return sender === this.#sender ? undefined : { channel, notes };
  }
}
