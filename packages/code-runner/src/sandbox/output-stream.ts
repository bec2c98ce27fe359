import type { Readable } from 'node:stream';

/**
 * One of a program's streams, read as it is asked for: what is not asked for stays in the pipe, and the program waits. It ends at the
 * word that the supervisor ends it with, or when the pipe does.
 */
export class OutputStream {
  readonly #source: Readable;
  readonly #changed: () => void;
  #word: Buffer | undefined;
  /** Bytes that may be the beginning of the word. */
  #tail: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: Readable, changed: () => void) {
    this.#source = source;
    this.#changed = changed;
    source.on('readable', changed);
    const end = (): void => {
      this.#ended = true;
      changed();
    };
    source.on('end', end);
    source.on('error', end);
    // Destroyed, by whoever removes the sandbox.
    source.on('close', end);
  }

  /** Nothing will follow. */
  get ended(): boolean {
    return this.#ended && this.#tail.length === 0;
  }

  /** The word that stands at the end. Only who says it last, when nobody else writes any more, can have said it. */
  endsWith(word: string): void {
    this.#word = Buffer.from(word);
    this.#changed();
  }

  /** What has come, or `undefined`. */
  take(): Buffer | undefined {
    const chunk = this.#source.read() as Buffer | null;
    if (chunk === null) {
      if (!this.#ended || this.#tail.length === 0) return undefined;
      // The pipe ended without the word: all of it was the program's.
      const rest = this.#tail;
      this.#tail = Buffer.alloc(0);
      return rest;
    }
    const all = this.#tail.length > 0 ? Buffer.concat([this.#tail, chunk]) : chunk;
    const word = this.#word;
    if (word?.equals(all.subarray(-word.length))) {
      this.#tail = Buffer.alloc(0);
      this.#ended = true;
      this.#source.destroy();
      const bytes = all.subarray(0, -word.length);
      return bytes.length > 0 ? bytes : undefined;
    }
    // Kept back only once the word may come: until then nothing waits for more.
    const keep = word ? Math.min(word.length - 1, all.length) : 0;
    this.#tail = Buffer.from(all.subarray(all.length - keep));
    const bytes = all.subarray(0, all.length - keep);
    return bytes.length > 0 ? bytes : undefined;
  }
}
