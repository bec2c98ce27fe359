import { boundedCall } from '@holdfast/core';
import type { Redis } from 'ioredis';
import type { RawEntry } from './streams.ts';

/** What a reader tells its subscription. */
export interface BlockingReaderOptions {
  /** Its settings are taken for the reader's own connection. */
  readonly client: Redis;
  /** Called when a reply with entries may have been lost: with its connection, or because it was not waited for. */
  readonly onGap: () => void;
  readonly onError: (error: unknown) => void;
}

/** The streams of a read that have new entries, each with those. */
export type Entries = readonly (readonly [stream: string, entries: readonly RawEntry[]])[];

const blockMs = 500;
/** How long a reply may be late. */
const lateMs = 5_000;
const entriesPerRead = 100;
const limits = ['COUNT', String(entriesPerRead), 'BLOCK', String(blockMs)] as const;

/** Reads new entries of streams, and waits for some, on a connection of its own: a blocking read occupies it. */
export class BlockingReader {
  readonly #options: BlockingReaderOptions;
  readonly #reader: Redis;
  /** Aborts when the connection is lost. */
  #lost = new AbortController();

  constructor(options: BlockingReaderOptions) {
    this.#options = options;
    // It must fail while disconnected: if a read waited in ioredis's queue, it would be sent after its caller had given up, and the entries
    // that it read would stay pending.
    this.#reader = options.client.duplicate({ maxRetriesPerRequest: null, enableOfflineQueue: false });
    this.#reader.on('close', () => {
      options.onGap();
      this.#lost.abort(new Error('the connection was lost'));
      this.#lost = new AbortController();
    });
    this.#reader.on('error', options.onError);
  }

  /** Reads what no consumer of the group has got; it becomes pending as this consumer's. */
  ofGroup(group: string, consumer: string, streams: readonly string[]): Promise<Entries> {
    const places = streams.map(() => '>');
    return this.#bounded(() =>
      bufferReads(this.#reader).xreadgroupBuffer('GROUP', group, consumer, ...limits, 'STREAMS', ...streams, ...places),
    );
  }

  /** Reads the entries after the given id of each stream. */
  after(ids: ReadonlyMap<string, string>): Promise<Entries> {
    return this.#bounded(() => bufferReads(this.#reader).xreadBuffer(...limits, 'STREAMS', ...ids.keys(), ...ids.values()));
  }

  /** Closes the connection. A read in progress rejects. */
  disconnect(): void {
    this.#reader.disconnect();
  }

  /** ioredis never settles a read whose connection is lost or half open. */
  async #bounded(read: () => Promise<unknown>): Promise<Entries> {
    const late = (): Error => {
      this.#reader.disconnect(true);
      return new Error('the blocking read did not end');
    };
    try {
      const reply = await boundedCall(read, { name: 'a blocking read', ms: blockMs + lateMs, signal: this.#lost.signal, late });
      return ((reply ?? []) as [Buffer, RawEntry[]][]).map(([stream, entries]) => [stream.toString(), entries]);
    } catch (error) {
      this.#options.onGap();
      throw error;
    }
  }
}

/**
 * The reads that return buffers, without ioredis's hundred overloads. `callBuffer` is not used for them: its replies have different shapes under
 * RESP2 and RESP3.
 */
function bufferReads(client: Redis): Record<'xreadBuffer' | 'xreadgroupBuffer', (...args: string[]) => Promise<unknown>> {
  return client as never;
}
