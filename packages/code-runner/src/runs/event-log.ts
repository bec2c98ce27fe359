import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { Database } from '@holdfast/core';
import type { FileStore } from '../store/file-store.ts';
import type { RunRow } from './run.ts';
import { type EventKind, eventOf, type RunEvent } from './run-event.ts';
import type { RunWatch } from './run-news.ts';
import type { RunTable } from './run-table.ts';

/** Events that are read at a time: at most 2 MiB, however slow the reader. */
const pageEvents = 32;

/** An event in the index of a packed log: where its bytes lie, or what they are. */
type Packed = readonly [seq: number, at: number, kind: EventKind, content: number | string];

export interface EventLogOptions {
  readonly database: Database;
  readonly runs: RunTable;
  readonly store: FileStore;
  readonly watch: (runId: string) => RunWatch;
}

/**
 * Reads a run's events: rows while it is live, one object with an index once it has ended. Readers hold nothing between two pages, so
 * a slow one costs nothing.
 */
export class EventLog {
  readonly #options: EventLogOptions;
  readonly #events: string;
  readonly #table: string;

  constructor(options: EventLogOptions) {
    this.#options = options;
    this.#events = options.database.table('runner_event');
    this.#table = options.database.table('runner_run');
  }

  /** Events behind `after`, then those to come, up to the run's end. */
  async *follow(
    runId: string,
    after: number,
    options: { readonly signal?: AbortSignal | undefined; readonly wait: boolean },
  ): AsyncGenerator<RunEvent> {
    const { runs } = this.#options;
    // From before the first look, so that no news falls between a look and the wait.
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

  /** Puts a finished run's log into one object, in place of its rows. */
  async pack(run: RunRow): Promise<void> {
    const { database, store } = this.#options;
    const index: Packed[] = [];
    let bytes = 0;
    let seq = 0;
    const pages = async function* (this: EventLog): AsyncGenerator<Uint8Array> {
      for (;;) {
        const rows = await this.#rows(run.id, seq);
        for (const row of rows) {
          seq = row.seq;
          if (row.kind === 'state') {
            index.push([row.seq, row.at, row.kind, Buffer.from(row.content).toString()]);
          } else {
            index.push([row.seq, row.at, row.kind, row.content.length]);
            bytes += row.content.length;
            yield row.content;
          }
        }
        if (rows.length < pageEvents) return;
      }
    }.bind(this);
    const log = logObject(run.jobUid);
    // The store wants to know the size before: a first look adds it up.
    const [sum] = await database.rows<{ bytes: string | number | null; last: number | null }>(
      `SELECT SUM(OCTET_LENGTH(content)) AS bytes, MAX(seq) AS last FROM ${this.#events} WHERE run_id = ? AND kind <> 'state'`,
      [run.id],
    );
    await store.put(log, Readable.from(pages(), { objectMode: false }), Number(sum?.bytes ?? 0));
    const text = Buffer.from(JSON.stringify({ bytes, events: index }));
    await store.put(indexObject(run.jobUid), text, text.length);
    await database.transaction(async (x) => {
      const packed = await x.run(
        `UPDATE ${this.#table} SET log_packed = 1 WHERE id = ? AND phase = 'terminal' AND log_packed = 0 AND last_seq = ?`,
        [run.id, seq],
      );
      if (packed > 0) await x.run(`DELETE FROM ${this.#events} WHERE run_id = ?`, [run.id]);
    });
  }

  async #page(runId: string, after: number): Promise<RunEvent[]> {
    return (await this.#rows(runId, after)).map(({ seq, at, kind, content }) => eventOf(seq, at, kind, content));
  }

  async #rows(runId: string, after: number): Promise<{ seq: number; at: number; kind: EventKind; content: Uint8Array }[]> {
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

  async *#packed(run: RunRow, after: number): AsyncGenerator<RunEvent> {
    const { store } = this.#options;
    const index = JSON.parse((await buffer(await store.open(indexObject(run.jobUid)))).toString()) as { events: Packed[] };
    let offset = 0;
    const left: Packed[] = [];
    for (const event of index.events) {
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

/** Bytes of a stream in given amounts; opened when the first is asked for. */
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

function indexObject(jobUid: string): string {
  return `${jobUid}/log/${jobUid}.json`;
}
