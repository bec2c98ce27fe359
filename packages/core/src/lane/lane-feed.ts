import { RowRemover } from '../batch/row-remover.ts';
import type { Database } from '../database/database.ts';
import { LeaseShare } from '../lease/lease-share.ts';
import { type Lease, LeaseTable } from '../lease/lease-table.ts';
import { lifecycle } from '../loop/lifecycle.ts';
import type { Service } from '../loop/service.ts';
import { checkpoint } from '../observe/checkpoint.ts';
import type { Logger } from '../observe/logger.ts';
import { monotonicMs } from '../time/monotonic.ts';
import { wait } from '../time/wait.ts';
import { KnownRows } from './known-rows.ts';
import { deleteLaneRows, type LaneRow, type LaneTableShape, rowOverheadBytes } from './lane-rows.ts';
import { type ReadRows, type Room, readWithin, windowBytes } from './read-within.ts';

/** Options of {@link LaneFeed}. */
export interface LaneFeedOptions<Row extends LaneRow> {
  readonly database: Database;
  readonly shape: LaneTableShape;
  /** The scope of the lanes' leases: processes with the same scope share the lanes. */
  readonly scope: string;
  readonly lanes: readonly number[];
  /** Names this process among those that share the lanes. */
  readonly owner: string;
  /** How long a lane stays its owner's without a renewal, in ms. Default 10,000. */
  readonly leaseMs?: number;
  /** Rows in memory at most: given out, and not yet removed or forgotten. Default 4,000. */
  readonly window?: number;
  /** How often each lane is read from its beginning, in ms. Default 1,000. */
  readonly rescanMs?: number;
  /** Returns the bytes of the large columns of a row. Required if `shape` names large columns. */
  readonly rowBytes?: (row: Row) => number;
  /** Receives committed rows, by id within each lane. Pass each row to `remove` or `forget` later. Must not throw. */
  readonly onRows: (rows: readonly Row[]) => void;
  /** Called when this process takes a lane, before it reads the lane. */
  readonly onTaken?: (lane: number) => void;
  /** Called when this process no longer holds a lane: pass its rows whose handling has not begun to `forget`. */
  readonly onLost: (lane: number) => void;
  /** Called when another member is owed the lane: forget rows whose handling has not begun, and resolve when the other rows have ended. */
  readonly onDrain: (lane: number) => Promise<void>;
  readonly logger: Logger;
}

interface Lane {
  readonly lane: number;
  /** The id up to which rows have been read since the lane was last read from its beginning. */
  cursor: string;
  /** The highest id that was read. */
  floor: bigint;
  /** True if there may be rows after the cursor. */
  more: boolean;
  /** True if the last read left rows for the next one. */
  deep: boolean;
  /** True if the last read had no room for the next row, which is large. */
  waits: boolean;
  /** True while it is handed over to another member. */
  draining: boolean;
}

/**
 * Gives out the committed rows of the lanes that this process holds, by id within each lane, and removes the rows that were handled.
 *
 * It also finds a row that commits late, with an id below ids that were read before: the position in a lane is kept in memory only, and
 * every lane is read from its beginning each second and when its owner changes. (A stored cursor would skip such a row for ever.) Rows that
 * were given out are known by id, and not given out twice. A lane has one owner at a time, by lease.
 */
export class LaneFeed<Row extends LaneRow> implements Service {
  readonly #options: LaneFeedOptions<Row>;
  readonly #share: LeaseShare;
  readonly #leases: LeaseTable;
  readonly #lanes = new Map<number, Lane>();
  readonly #known = new KnownRows();
  readonly #remover: RowRemover<LaneRow>;
  readonly #lifecycle: Service;
  #closing = new AbortController();
  #running: Promise<void> | undefined;
  #kicked: (() => void) | undefined;
  #awake = false;
  #rescanAt = 0;
  #rescansMs: readonly [last: number, before: number] = [0, 0];

  constructor(options: LaneFeedOptions<Row>) {
    this.#options = options;
    this.#leases = new LeaseTable(options.database);
    this.#share = new LeaseShare({
      table: this.#leases,
      scope: options.scope,
      names: options.lanes.map(String),
      owner: options.owner,
      leaseMs: options.leaseMs ?? 10_000,
      logger: options.logger,
      onTaken: ({ name }) => this.#taken(Number(name)),
      onLost: ({ name }) => this.#lost(Number(name)),
      onSurplus: (count) => this.#drainSome(count),
    });
    this.#remover = new RowRemover({
      remove: async (rows) => {
        await checkpoint('lane:before-remove');
        await deleteLaneRows(options.database, options.database, options.shape.table, rows);
        await checkpoint('lane:after-remove');
      },
      onRemoved: (rows) => this.forget(rows),
      onError: (err) => options.logger.debug({ err }, 'handled rows could not be removed; retrying'),
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  get database(): Database {
    return this.#options.database;
  }

  /** The lanes that this process holds. */
  get lanes(): readonly number[] {
    return [...this.#lanes.keys()];
  }

  /** Returns whether this process holds the lane, and no other member is owed it. */
  holds(lane: number): boolean {
    return this.#lanes.get(lane)?.draining === false;
  }

  /** The lease of a lane, if it lasts for `spareMs` more and no other member is owed the lane. */
  lease(lane: number, spareMs: number = 0): Lease | undefined {
    const lease = this.#share.lease(String(lane));
    return lease && lease.deadline - spareMs > monotonicMs() && !this.#lanes.get(lane)?.draining ? lease : undefined;
  }

  /** The table of the lanes' leases. Its `fence` refuses a transaction of a process that no longer holds the lane. */
  get leases(): LeaseTable {
    return this.#leases;
  }

  /** Reads on: there may be new rows in `lane`, or in any lane if it is not given. */
  wake(lane?: number): void {
    if (lane === undefined) for (const one of this.#lanes.values()) one.more = true;
    else {
      const one = this.#lanes.get(lane);
      if (!one) return;
      one.more = true;
    }
    this.#kick();
  }

  /** Deletes rows that were handled, together with others, after this call. */
  remove(rows: readonly LaneRow[]): void {
    if (rows.length > 0) this.#remover.push(rows);
  }

  /** Takes rows out of memory: rows that left the table in another way, or that the next read is to give out again. */
  forget(rows: readonly LaneRow[]): void {
    this.#known.forget(rows);
    this.#kick();
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Stops reading, removes the rows that were handled, and releases the lanes. The handling of rows should have ended before. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Stops reading, until the next `start`. */
  pauseReading(): void {
    this.#closing.abort(new Error('the feed has stopped reading'));
    this.#kick();
  }

  #start(): Promise<void> {
    this.#closing = new AbortController();
    this.#remover.open();
    this.#running = this.#run(this.#closing.signal);
    return this.#share.start();
  }

  async #stop(): Promise<void> {
    this.pauseReading();
    await this.#running;
    await this.#remover.flush(5_000);
    this.#remover.close();
    await this.#share.stop();
    this.#known.clear();
  }

  #taken(lane: number): void {
    this.#lanes.set(lane, { lane, cursor: '0', floor: 0n, more: true, deep: false, waits: false, draining: false });
    this.#options.onTaken?.(lane);
    this.#kick();
  }

  #lost(lane: number): void {
    if (this.#lanes.delete(lane)) this.#options.onLost(lane);
  }

  #drainSome(count: number): void {
    const draining = [...this.#lanes.values()].filter((lane) => lane.draining).length;
    for (const lane of [...this.#lanes.values()].filter((one) => !one.draining).slice(0, Math.max(0, count - draining))) {
      lane.draining = true;
      void this.#handOver(lane).catch((err) =>
        this.#options.logger.debug({ err, lane: lane.lane }, 'a lane could not be handed over; retrying'),
      );
    }
  }

  async #handOver(lane: Lane): Promise<void> {
    try {
      await this.#options.onDrain(lane.lane);
      await this.#remover.flush(5_000);
      const lease = this.#share.lease(String(lane.lane));
      if (lease) await this.#share.safePoint(lease);
    } finally {
      // The lane was not handed over. Its rows have been forgotten, so it is read from its beginning, as if just taken.
      if (this.#lanes.get(lane.lane) === lane) this.#taken(lane.lane);
    }
  }

  #kick(): void {
    this.#awake = true;
    this.#kicked?.();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let pauseMs = 50;
    while (!signal.aborted) {
      this.#awake = false;
      let read = 0;
      try {
        read = await this.#readOnce();
        pauseMs = 50;
      } catch (err) {
        this.#options.logger.warn({ err, scope: this.#options.scope }, 'the lanes could not be read; retrying');
        await wait(pauseMs, signal).catch(() => undefined);
        pauseMs = Math.min(pauseMs * 2, 2_000);
        continue;
      }
      if (read > 0 || this.#awake) continue;
      const idle = new AbortController();
      this.#kicked = () => idle.abort(new Error('woken'));
      await wait(Math.max(1, this.#rescanAt - monotonicMs()), AbortSignal.any([signal, idle.signal])).catch(() => undefined);
      this.#kicked = undefined;
    }
  }

  /** Reads once. Returns the number of rows read; 0 if the window is full or nothing is to be read. */
  async #readOnce(): Promise<number> {
    const now = monotonicMs();
    const rescan = now >= this.#rescanAt;
    if (rescan) this.#beginRescan(now);
    const due = [...this.#lanes.values()]
      .filter((lane) => lane.more && !lane.draining && this.lease(lane.lane))
      .sort((a, b) => Number(b.waits) - Number(a.waits));
    const room = this.#room(due);
    if (!room) return 0;
    const cursors = due.map(({ lane, cursor, deep, waits }) => ({ lane, afterId: cursor, deep, waits }));
    // Reset before the read: a wake-up during the read asks for another one.
    for (const lane of due) lane.more = false;
    this.#known.beginRead();
    let read: ReadRows<Row>;
    try {
      read = await readWithin<Row>(this.#options, cursors, { known: this.#known, room, rescan });
    } catch (error) {
      for (const lane of due) lane.more = true;
      // The read returned nothing. Rows that were forgotten meanwhile must be new to the next read, or it would skip them.
      this.#known.endRead();
      throw error;
    }
    if (rescan) this.#rescansMs = [monotonicMs() - now, this.#rescansMs[0]];
    const fresh = this.#fresh(read, due);
    this.#known.endRead();
    this.#advance(read, due);
    const { rowBytes } = this.#options;
    this.#known.add(fresh.map((row) => ({ id: row.id, bytes: this.#sized ? (rowBytes?.(row) ?? 0) + rowOverheadBytes : 0 })));
    if (fresh.length > 0) this.#options.onRows(fresh);
    return read.listed.length;
  }

  /** True if the rows have large columns, whose bytes are limited. */
  get #sized(): boolean {
    return (this.#options.shape.large ?? []).length > 0;
  }

  /** Lets each lane be read from its beginning. */
  #beginRescan(now: number): void {
    for (const lane of this.#lanes.values()) {
      lane.cursor = '0';
      lane.more = true;
    }
    // One stall (a lock, a connection that opens) must not decide: the shorter of the last two times counts.
    const rescanMs = this.#options.rescanMs ?? 1_000;
    this.#rescanAt = now + Math.max(rescanMs, Math.min(10 * rescanMs, Math.min(...this.#rescansMs) * 20));
  }

  /** The rows, and the bytes of their large columns, that may be read now; `undefined` if none may. */
  #room(due: readonly Lane[]): Room | undefined {
    const rows = (this.#options.window ?? 4_000) - this.#known.size;
    const bytes = this.#sized ? windowBytes - this.#known.bytes : Number.POSITIVE_INFINITY;
    return due.length === 0 || rows <= 0 || bytes <= 0 ? undefined : { rows, bytes };
  }

  /**
   * The rows of a read that were not given out yet. A lane that was lost, handed over or taken again during the read is left out, and is read
   * from its beginning: its earlier rows have been forgotten meanwhile, and to give out the later ones now would break their order.
   */
  #fresh({ listed, rows }: ReadRows<Row>, due: readonly Lane[]): Row[] {
    const stillOurs = new Set(due.filter((one) => this.#lanes.get(one.lane) === one && !one.draining).map(({ lane }) => lane));
    const fresh: Row[] = [];
    for (const [i, { id, lane }] of listed.entries()) {
      const row = rows[i];
      if (row && stillOurs.has(Number(lane)) && !this.#known.has(id)) fresh.push(row);
    }
    return fresh;
  }

  /** Moves the cursor of each lane past the rows of a read. */
  #advance({ listed, limit, cut, waits }: ReadRows<Row>, due: readonly Lane[]): void {
    const counts = new Map<number, { count: number; last: string; found: number }>();
    for (const { id, lane, found } of listed) {
      const entry = counts.get(Number(lane));
      if (entry) {
        entry.count += 1;
        entry.last = id;
      } else counts.set(Number(lane), { count: 1, last: id, found: Number(found ?? 0) });
    }
    for (const lane of due) {
      const entry = counts.get(lane.lane);
      const last = BigInt(entry?.last ?? 0);
      if (last > lane.floor) lane.floor = last;
      lane.deep = cut.has(lane.lane) || (entry !== undefined && (entry.count >= limit || entry.count < entry.found));
      lane.waits = waits.has(lane.lane);
      if (lane.deep) lane.more = true;
      // A read of all rows there are has read up to the floor, also where it began at 0. Else each read of a lane that is empty for a moment
      // would pass the entries of all rows that have gone, which an old snapshot keeps.
      lane.cursor = lane.deep ? (entry?.last ?? lane.cursor) : String(lane.floor);
    }
  }
}
