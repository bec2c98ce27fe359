import { monotonicMs, startTimer, type Timer, wait } from '@holdfast/core';
import type { LogPiece } from '../executor/executor.ts';
import type { NewEvent } from '../runs/run-events.ts';

/** A chunk is written when it has this many bytes … */
const chunkBytes = 65_536;
/** … or is this old. */
const chunkMs = 200;

/** Writes within this time become one chunk: Python writes the parts of a line one by one. */
const settleMs = 2;

/** The position of a log: the executor's position, and bytes of UTF-8 characters that are not yet complete. */
interface Position {
  readonly at: string | null;
  readonly held?: { readonly stdout?: string; readonly stderr?: string };
}

export interface LogWriterOptions {
  /** The highest number of bytes that may be printed. */
  readonly limit: number;
  /** Bytes that an earlier worker of the run has stored. */
  readonly bytes: number;
  readonly position: string | null;
  /**
   * Appends after the first `from` bytes. False: the run belongs to another worker. A rejected call is retried, and must not append
   * twice.
   */
  readonly append: (
    events: readonly NewEvent[],
    more: { readonly position: string; readonly from: number; readonly bytes: number },
  ) => Promise<boolean>;
  /** Called when a write fails for the first time; it is retried. */
  readonly onTrouble: (error: unknown) => void;
  /** Gives up the retries. */
  readonly signal: AbortSignal;
  /** Called when the program has printed more than `limit`. */
  readonly onLimit: () => void;
}

/**
 * Splits the output of a program into chunks, between UTF-8 characters. The first chunk is written almost at once, later ones every
 * 200 ms or at 64 KiB. A push that completes 64 KiB waits for the write, which slows the program down.
 */
export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #held: Record<'stdout' | 'stderr', Buffer>;
  #events: { kind: 'stdout' | 'stderr'; parts: Uint8Array[]; bytes: number }[] = [];
  #bytes = 0;
  /** Bytes that were accepted, and those of them that are stored. */
  #total: number;
  #written: number;
  #position: string | null;
  #over: boolean;
  /** True if the marker of a cut log was added. */
  #marked: boolean;
  #lastMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failed: unknown;

  constructor(options: LogWriterOptions) {
    this.#options = options;
    const { at, held } = (options.position === null ? { at: null } : JSON.parse(options.position)) as Position;
    this.#position = at;
    this.#held = { stdout: Buffer.from(held?.stdout ?? '', 'base64'), stderr: Buffer.from(held?.stderr ?? '', 'base64') };
    this.#total = options.bytes;
    this.#written = options.bytes;
    this.#over = options.bytes >= options.limit;
    this.#marked = this.#over;
  }

  /** Position at which reading the executor's log continues. */
  get position(): string | null {
    return this.#position;
  }

  async push({ stream, bytes, position }: LogPiece): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    this.#position = position;
    if (this.#over) return;
    const all =
      this.#held[stream].length > 0
        ? Buffer.concat([this.#held[stream], bytes])
        : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const whole = completeCharacters(all);
    this.#held[stream] = Buffer.from(all.subarray(whole));
    this.#add(stream, all.subarray(0, whole));
    if (this.#bytes >= chunkBytes) await this.flush();
    else this.#later();
  }

  /** Writes the rest, including incomplete characters. Rejects if the run belongs to another worker. */
  async close(): Promise<void> {
    for (const stream of ['stdout', 'stderr'] as const) {
      if (!this.#over) this.#add(stream, this.#held[stream]);
      this.#held[stream] = Buffer.alloc(0);
    }
    await this.flush();
    if (this.#failed !== undefined) throw this.#failed;
  }

  flush(): Promise<void> {
    this.#timer?.clear();
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  #add(stream: 'stdout' | 'stderr', bytes: Buffer): void {
    let left = bytes;
    const room = this.#options.limit - this.#total;
    if (left.length > room) {
      left = left.subarray(0, completeCharacters(left.subarray(0, room)));
      this.#over = true;
    }
    this.#total += left.length;
    while (left.length > 0) {
      let last = this.#events.at(-1);
      if (!last || last.kind !== stream || last.bytes >= chunkBytes - 4) this.#events.push((last = { kind: stream, parts: [], bytes: 0 }));
      const room = chunkBytes - last.bytes;
      const piece = left.length <= room ? left : left.subarray(0, completeCharacters(left.subarray(0, room)));
      last.parts.push(piece);
      last.bytes += piece.length;
      this.#bytes += piece.length;
      left = left.subarray(piece.length);
    }
    if (this.#over) this.#options.onLimit();
  }

  #later(): void {
    if (this.#timer !== undefined || this.#events.length === 0) return;
    const due = Math.max(settleMs, this.#lastMs + chunkMs - monotonicMs());
    this.#timer = startTimer(due, () => void this.flush()).unref();
  }

  async #write(): Promise<void> {
    if (this.#failed !== undefined || (this.#events.length === 0 && !this.#over)) return;
    const events: NewEvent[] = this.#events.map(({ kind, parts }) => ({ kind, content: Buffer.concat(parts) }));
    const bytes = this.#bytes;
    if (this.#over && !this.#marked) {
      this.#marked = true;
      events.push({ kind: 'marker', content: Buffer.from(`\n[output was cut here: more than ${this.#options.limit} bytes]\n`) });
    }
    this.#events = [];
    this.#bytes = 0;
    if (events.length === 0) return;
    this.#lastMs = monotonicMs();
    const held = { stdout: this.#held.stdout.toString('base64'), stderr: this.#held.stderr.toString('base64') };
    const position: Position = { at: this.#position, ...(held.stdout || held.stderr ? { held } : {}) };
    const more = { position: JSON.stringify(position), from: this.#written, bytes };
    for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        if (await this.#options.append(events, more)) this.#written += bytes;
        else this.#failed = new Error('the run belongs to another worker');
        return;
      } catch (error) {
        // The database is not reachable. The program waits as soon as its pipe is full, so no output is lost.
        if (pauseMs === 50) this.#options.onTrouble(error);
      }
      try {
        await wait(pauseMs, this.#options.signal);
      } catch (error) {
        this.#failed = error;
        return;
      }
    }
  }
}

/** Counts the bytes up to the end of the last complete UTF-8 character. Bytes that are not UTF-8 count as complete. */
export function completeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue;
    const length = byte >= 0xf0 && byte < 0xf8 ? 4 : byte >= 0xe0 ? (byte < 0xf0 ? 3 : 1) : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}
