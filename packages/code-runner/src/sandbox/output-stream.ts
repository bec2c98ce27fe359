import type { Readable } from 'node:stream';

/**
 * One of a program's output streams, read on demand: unread bytes stay in the pipe, and the program waits. The stream ends at the mark
 * that the supervisor writes, or when the pipe ends.
 */
export class OutputStream {
  readonly #source: Readable;
  readonly #changed: () => void;
  #mark: Buffer | undefined;
  /** Bytes that may be the beginning of the mark. */
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
    // Removing the sandbox destroys the stream.
    source.on('close', end);
  }

  /** True if all bytes were taken. */
  get ended(): boolean {
    return this.#ended && this.#tail.length === 0;
  }

  /** Sets the mark that ends the stream. It is random, and the program has ended when it is chosen, so the program can't write it. */
  endAt(mark: string): void {
    this.#mark = Buffer.from(mark);
    this.#changed();
  }

  /** Returns the bytes that have arrived, or `undefined`. */
  take(): Buffer | undefined {
    const chunk = this.#source.read() as Buffer | null;
    if (chunk === null) {
      if (!this.#ended || this.#tail.length === 0) return undefined;
      // The pipe ended without the mark: all bytes are the program's.
      const rest = this.#tail;
      this.#tail = Buffer.alloc(0);
      return rest;
    }
    const all = this.#tail.length > 0 ? Buffer.concat([this.#tail, chunk]) : chunk;
    const mark = this.#mark;
    if (mark?.equals(all.subarray(-mark.length))) {
      this.#tail = Buffer.alloc(0);
      this.#ended = true;
      this.#source.destroy();
      const bytes = all.subarray(0, -mark.length);
      return bytes.length > 0 ? bytes : undefined;
    }
    // Bytes are held back only once a mark is set.
    const keep = mark ? Math.min(mark.length - 1, all.length) : 0;
    this.#tail = Buffer.from(all.subarray(all.length - keep));
    const bytes = all.subarray(0, all.length - keep);
    return bytes.length > 0 ? bytes : undefined;
  }
}
