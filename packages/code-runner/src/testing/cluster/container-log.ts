/** A log entry, as a container run time writes it. */
interface Entry {
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly content: Buffer;
}

const entryBytes = 16_384;
const newline = 10;

/** The log of a container: entries of one line or 16 KiB, each with its time. */
export class ContainerLog {
  readonly #listeners = new Set<() => void>();
  #entries: Entry[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #lastMs = 0;
  #nanos = 0;
  #dropped = false;
  ended = false;

  write(bytes: Uint8Array): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const end = this.#rest.indexOf(newline);
      const length = end >= 0 && end < entryBytes ? end + 1 : this.#rest.length >= entryBytes ? entryBytes : 0;
      if (length === 0) break;
      this.#add(this.#rest.subarray(0, length));
      this.#rest = this.#rest.subarray(length);
    }
    this.#tell();
  }

  end(): void {
    if (this.#rest.length > 0) this.#add(this.#rest);
    this.#rest = Buffer.alloc(0);
    this.ended = true;
    this.#tell();
  }

  /** Drops all but the last entries, as a kubelet does with a long log. */
  rotate(keep: number): void {
    this.#entries = this.#entries.slice(-keep);
    this.#dropped = true;
  }

  /** Returns the entries from an index on, as the server sends them. */
  read(
    from: number,
    options: { readonly timestamps: boolean; readonly since: string | undefined },
  ): { readonly text: Buffer; readonly next: number } {
    const at = this.#dropped && from > this.#entries.length ? this.#entries.length : from;
    const parts: Buffer[] = [];
    // Servers compare whole seconds.
    const since = options.since?.slice(0, 19);
    for (const { time, content } of this.#entries.slice(at)) {
      if (since !== undefined && time.slice(0, 19) < since) continue;
      if (options.timestamps) parts.push(Buffer.from(`${time} `));
      parts.push(content);
    }
    return { text: Buffer.concat(parts), next: this.#entries.length };
  }

  /** Resolves at the next change. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#listeners.delete(done);
        resolve();
      };
      this.#listeners.add(done);
    });
  }

  #add(content: Buffer): void {
    const ms = Math.floor(performance.timeOrigin + performance.now());
    // Some entries share a time, as with a coarse clock.
    this.#nanos = ms === this.#lastMs ? this.#nanos + (this.#entries.length % 3 === 0 ? 0 : 1) : 0;
    this.#lastMs = ms;
    const time = new Date(ms).toISOString().replace('Z', `${String(this.#nanos).padStart(6, '0')}Z`);
    this.#entries.push({ time, content: Buffer.from(content) });
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
