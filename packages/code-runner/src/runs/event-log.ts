import { Readable } from 'node:stream';
import type { Database } from '@holdfast/core';
import type { FileStore } from '../store/file-store.ts';
import type { ListedRow } from './run.ts';
import { type EventKind, eventOf, type RunEvent } from './run-event.ts';
import type { RunTable } from './run-table.ts';
import type { RunWatch } from './run-watches.ts';

/** Events per page, at most 2 MiB: the memory that a slow reader costs. */
const pageEvents = 32;

/** An event in the index of a packed log. `content` is the number of its bytes in the object, or, for a change of state, its text. */
type Packed = readonly [seq: number, at: number, kind: EventKind, content: number | string];

interface RawEvent {
  readonly seq: number;
  readonly at: number;
  readonly kind: EventKind;
  readonly content: Buffer;
}

export interface EventLogOptions {
  readonly database: Database;
  readonly runs: RunTable;
  readonly store: FileStore;
  readonly watch: (runId: string) => RunWatch;
}

/**
 * Reads a run's events: from rows while the run is live, and from one object with an index after it has ended. A reader holds no
 * connection between two pages, so slow readers are cheap.
 */
export class EventLog {
  readonly #options: EventLogOptions;
  readonly #events: string;

  constructor(options: EventLogOptions) {
    this.#options = options;
    this.#events = options.database.table('runner_event');
  }

  /** Yields the events after number `after`, then new ones until the run ends. */
  async *follow(
    runId: string,
    after: number,
    options: { readonly signal?: AbortSignal | undefined; readonly wait: boolean },
  ): AsyncGenerator<RunEvent> {
    const { runs } = this.#options;
    // Watches from before the first read, so that no change between a read and a wait is missed.
    using watch = this.#options.watch(runId);
    let seq = after;
    for (;;) {
      options.signal?.throwIfAborted();
      const page = await this.#page(runId, seq);
      for (const event of page) {
        yield event;
        seq = event.seq;
      }
      if (page.length === pageEvents) continue;
      const run = await runs.get(runId);
      if (run.logPacked) {
        yield* this.#packed(run, seq);
        return;
      }
      if (run.lastSeq > seq) continue;
      // The last event of a run is its end.
      if (run.phase === 'terminal' || !options.wait) return;
      await watch.changed(options.signal);
    }
  }

  /** Returns the changes of a run's state, in order. */
  async states(run: ListedRow): Promise<RunEvent[]> {
    const { database, runs } = this.#options;
    if (run.logPacked) {
      const index = JSON.parse(await runs.logIndex(run.id)) as Packed[];
      return index.flatMap(([seq, at, kind, content]) =>
        kind === 'state' && typeof content === 'string' ? [eventOf(seq, at, kind, Buffer.from(content))] : [],
      );
    }
    const rows = await database.rows<{ seq: number; at_ms: string; content: Uint8Array }>(
      `SELECT seq, ${database.text('at_ms')} AS at_ms, content FROM ${this.#events} WHERE run_id = ? AND kind = 'state' ORDER BY seq`,
      [run.id],
    );
    return rows.map(({ seq, at_ms, content }) => eventOf(Number(seq), Number(at_ms), 'state', content));
  }

  /** Replaces the event rows of a run that has ended by one object. */
  async pack(run: ListedRow): Promise<void> {
    const { store, runs } = this.#options;
    const index: Packed[] = [];
    const note = (rows: readonly RawEvent[]): Buffer[] =>
      rows.flatMap(({ seq, at, kind, content }) => {
        index.push([seq, at, kind, kind === 'state' ? content.toString() : content.length]);
        return kind === 'state' ? [] : [content];
      });
    let rows = await this.#rows(run.id, 0);
    const first = note(rows);
    if (rows.length < pageEvents) {
      const whole = Buffer.concat(first);
      await store.put(logObject(run.jobUid), whole, whole.length);
    } else {
      const pages = async function* (this: EventLog): AsyncGenerator<Buffer> {
        yield* first;
        while (rows.length === pageEvents) {
          rows = await this.#rows(run.id, rows.at(-1)?.seq ?? 0);
          yield* note(rows);
        }
      }.bind(this);
      const total = await this.#bytes(run.id);
      await store.put(logObject(run.jobUid), Readable.from(pages(), { objectMode: false }), total);
    }
    await runs.packed(run, JSON.stringify(index));
  }

  async #bytes(runId: string): Promise<number> {
    const [sum] = await this.#options.database.rows<{ bytes: string | number | null }>(
      `SELECT SUM(OCTET_LENGTH(content)) AS bytes FROM ${this.#events} WHERE run_id = ? AND kind <> 'state'`,
      [runId],
    );
    return Number(sum?.bytes ?? 0);
  }

  async #page(runId: string, after: number): Promise<RunEvent[]> {
    return (await this.#rows(runId, after)).map(({ seq, at, kind, content }) => eventOf(seq, at, kind, content));
  }

  async #rows(runId: string, after: number): Promise<RawEvent[]> {
    const rows = await this.#options.database.rows<{ seq: number; at_ms: string; kind: EventKind; content: Uint8Array }>(
      `SELECT seq, ${this.#options.database.text('at_ms')} AS at_ms, kind, content FROM ${this.#events} WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ${pageEvents}`,
      [runId, after],
    );
    return rows.map(({ seq, at_ms, kind, content }) => ({
      seq: Number(seq),
      at: Number(at_ms),
      kind,
      content: Buffer.from(content.buffer, content.byteOffset, content.byteLength),
    }));
  }

  async *#packed(run: ListedRow, after: number): AsyncGenerator<RunEvent> {
    const { store, runs } = this.#options;
    const index = JSON.parse(await runs.logIndex(run.id)) as Packed[];
    let offset = 0;
    const left: Packed[] = [];
    for (const event of index) {
      if (event[0] > after) left.push(event);
      else if (typeof event[3] === 'number') offset += event[3];
    }
    const reader = new ByteReader(async () => store.open(logObject(run.jobUid), offset));
    try {
      for (const [seq, at, kind, content] of left)
        yield eventOf(seq, at, kind, typeof content === 'string' ? Buffer.from(content) : await reader.take(content));
    } finally {
      reader.close();
    }
  }
}

/** Reads given numbers of bytes from a stream, which is opened at the first read. */
class ByteReader {
  readonly #open: () => Promise<Readable>;
  #stream: Readable | undefined;
  #chunks: AsyncIterator<Buffer> | undefined;
  #rest: Buffer = Buffer.alloc(0);

  constructor(open: () => Promise<Readable>) {
    this.#open = open;
  }

  async take(bytes: number): Promise<Buffer> {
    this.#stream ??= await this.#open();
    this.#chunks ??= this.#stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < bytes) {
      const { value, done } = await this.#chunks.next();
      if (done) throw new Error(`The stored log ends ${bytes - have} bytes early.`);
      parts.push(value);
      have += value.length;
    }
    const all = Buffer.concat(parts);
    this.#rest = all.subarray(bytes);
    return all.subarray(0, bytes);
  }

  close(): void {
    this.#stream?.destroy();
  }
}

export function logObject(jobUid: string): string {
  return `${jobUid}/log/${jobUid}.log`;
}
