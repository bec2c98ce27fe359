import {
  checkpoint,
  type Database,
  Drain,
  type Events,
  type LaneFeed,
  LeaseLostError,
  type Logger,
  monotonicMs,
  type StoredError,
  storedError,
} from '@holdfast/core';
import { type OutboxRow, orderName } from '../table/message-columns.ts';
import type { HeldLine, HeldLines } from './held-lines.ts';
import { HoldTable } from './hold-table.ts';
import type { KeyQueue } from './key-queue.ts';
import type { RelayEvents } from './relay-events.ts';

/** The parts of a relay that {@link HoldChanges} use. */
export interface HoldChangesOptions {
  readonly database: Database;
  readonly feed: () => LaneFeed<OutboxRow>;
  readonly queue: KeyQueue;
  readonly lines: HeldLines;
  readonly events: Events<RelayEvents>;
  /** The number of publishes in which the broker accepted a message. A refusal counts as an attempt only if this number has grown since the last. */
  readonly acceptedBatches: () => number;
  /** Called when a line may be taken from the queue. */
  readonly onReady: () => void;
  readonly logger: Logger;
}

/** A hold to be written: its line waits. */
export interface NewHold {
  readonly lane: number;
  readonly name: string;
  /** Ms from now until the next try; `undefined`: not before an operator releases the line. */
  readonly waitMs: number | undefined;
  readonly attempts: number;
  readonly error: StoredError;
  /** The first message of the line, for the event. */
  readonly head: OutboxRow | undefined;
}

/** A message to be moved to the dead letters. */
export interface NewDeadLetter {
  readonly row: OutboxRow;
  /** The line whose parked list has the row; `undefined` if the row is in `outbox_message`. */
  readonly parkedUnder: string | undefined;
  readonly reason: string;
  readonly error: StoredError;
}

/** Parked rows of a line that are read at a time, and their bytes. */
const pageRows = 200;
const pageBytes = 2 * 2 ** 20;

/**
 * Stores changes of held lines and reads their parked rows, one step after another: a row that arrives while its line is being released
 * is either parked before the release reads the parked list, or published after it. A step that fails is repeated.
 */
export class HoldChanges {
  readonly #options: HoldChangesOptions;
  readonly #table: HoldTable;
  readonly #lines: HeldLines;
  readonly #queue: KeyQueue;
  readonly #toLoad = new Set<number>();
  readonly #toHold = new Map<string, NewHold>();
  #toPark: OutboxRow[] = [];
  #toBury: NewDeadLetter[] = [];
  readonly #toUnpark = new Map<string, OutboxRow[]>();
  readonly #toRead = new Set<string>();
  readonly #drain: Drain;
  #closed = false;

  constructor(options: HoldChangesOptions) {
    this.#options = options;
    this.#table = new HoldTable(options.database);
    this.#lines = options.lines;
    this.#queue = options.queue;
    this.#drain = new Drain({
      pending: () => !this.#closed && this.#pending(),
      step: () => this.#step(),
      onError: (err) => options.logger.debug({ err }, 'held messages could not be moved yet'),
      last: () => this.#unparkAtClose(),
    });
  }

  /** Reads the holds of lanes. */
  load(lanes: readonly number[]): void {
    for (const lane of lanes) this.#toLoad.add(lane);
    this.#drain.start();
  }

  /** Cancels `load` of a lane that was lost. */
  forgetLane(lane: number): void {
    this.#toLoad.delete(lane);
  }

  /** Stores that a line is held. */
  hold(change: NewHold): void {
    this.#toHold.set(change.name, change);
    this.#drain.start();
  }

  /** Moves a message to the dead letters. */
  bury(letter: NewDeadLetter): void {
    this.#toBury.push(letter);
    this.#drain.start();
  }

  /** Moves rows to the parked lists of their lines. */
  park(rows: readonly OutboxRow[]): void {
    this.#toPark.push(...rows);
    this.#drain.start();
  }

  /** Deletes published rows from the parked list of their line. */
  unpark(name: string, rows: readonly OutboxRow[]): void {
    const list = this.#toUnpark.get(name);
    if (list) list.push(...rows);
    else this.#toUnpark.set(name, [...rows]);
    this.#drain.start();
  }

  /** Reads the next parked rows of draining lines, or ends the holds of those that have none. */
  read(names: readonly string[]): void {
    for (const name of names) this.#toRead.add(name);
    this.#drain.start();
  }

  /** Resolves when the changes so far are stored, or cannot be. */
  async flush(): Promise<void> {
    await this.#drain.running;
  }

  open(): void {
    this.#closed = false;
  }

  /** Deletes published rows from their parked lists, and gives up everything else: the next owner of the lanes reads it from the tables. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#drain.running;
    this.#toLoad.clear();
    this.#toHold.clear();
    this.#toRead.clear();
    this.#toUnpark.clear();
    this.#toPark = [];
    this.#toBury = [];
  }

  /** Published rows leave their parked list even when the relay stops; otherwise they would be published again. */
  async #unparkAtClose(): Promise<void> {
    if (this.#closed) await this.#unpark().catch((err) => this.#options.logger.debug({ err }, 'published messages stay parked'));
  }

  async #step(): Promise<void> {
    await this.#load();
    await this.#write();
    await this.#unpark();
    await this.#read();
  }

  #pending(): boolean {
    return this.#toLoad.size + this.#toHold.size + this.#toPark.length + this.#toBury.length + this.#toUnpark.size + this.#toRead.size > 0;
  }

  async #load(): Promise<void> {
    for (const lane of [...this.#toLoad]) {
      const holds = await this.#table.load(lane);
      if (!this.#toLoad.delete(lane)) continue;
      for (const { name, waitMs, attempts } of holds) {
        const dueAt = waitMs === undefined ? Number.POSITIVE_INFINITY : monotonicMs() + waitMs;
        const known = this.#lines.get(name);
        if (known) {
          if (!known.draining && dueAt < known.dueAt) known.dueAt = dueAt;
          continue;
        }
        const acceptedBatches = this.#options.acceptedBatches();
        this.#lines.set({ lane, name, attempts, tries: attempts, acceptedBatches, dueAt, draining: false });
        // Rows that were read before the hold was known.
        this.#toPark.push(...this.#queue.extract(name));
      }
      // Rows left from before the lane was lost and came back. They go before rows that are read from now on; none of those is under way.
      this.#requeue((row) => Number(row.lane) === lane && !this.#lines.has(orderName(row)));
      this.#lines.loaded(lane);
      this.#options.onReady();
    }
  }

  /** Returns rows that were to be parked to the queue. */
  #requeue(free: (row: OutboxRow) => boolean): void {
    const rows = this.#toPark.filter(free);
    if (rows.length === 0) return;
    this.#toPark = this.#toPark.filter((row) => !free(row));
    this.#queue.push(rows);
  }

  async #write(): Promise<void> {
    const feed = this.#options.feed();
    const changes = [...this.#toHold.values()];
    this.#toHold.clear();
    const burials = this.#toBury;
    this.#toBury = [];
    const incoming = this.#toPark;
    this.#toPark = [];
    // A lane whose lease is about to expire still counts as ours: then the fence below fails, until the lease is renewed or the lane is lost.
    const ours = (lane: number): boolean => feed.holds(Number(lane));
    const parks = incoming.filter((row) => ours(row.lane) && this.#lines.has(orderName(row)));
    // The lane was lost and came back meanwhile, so that these lines are not held any more.
    this.#queue.push(incoming.filter((row) => ours(row.lane) && !this.#lines.has(orderName(row))));
    // The next owner of the lane reads these rows where they are.
    feed.forget(incoming.filter((row) => !ours(row.lane)));
    const holds = changes.filter(({ lane }) => ours(lane));
    const buried = burials.filter(({ row }) => ours(row.lane));
    feed.forget(burials.filter(({ row }) => !ours(row.lane)).map(({ row }) => row));
    const lanes = [
      ...new Set([
        ...parks.map(({ lane }) => Number(lane)),
        ...holds.map(({ lane }) => lane),
        ...buried.map(({ row }) => Number(row.lane)),
      ]),
    ];
    if (lanes.length === 0) return;
    try {
      await checkpoint('holds:before-write');
      await feed.database.transaction(async (sql) => {
        for (const lane of lanes.sort((a, b) => a - b)) {
          const lease = feed.lease(lane);
          if (!lease) throw new LeaseLostError(`The lease of lane ${lane} has expired.`);
          await feed.leases.fence(sql, lease);
        }
        for (const { lane, name, waitMs, attempts, error } of holds) await this.#table.hold(sql, lane, name, waitMs, attempts, error);
        for (const { row, parkedUnder, reason, error } of buried) await this.#table.bury(sql, row, parkedUnder, reason, error);
        if (parks.length > 0) await this.#table.park(sql, parks);
      });
    } catch (error) {
      // Nothing was stored, or all of it and the reply was lost; to store it again does no harm. Lost lanes are left out.
      for (const change of changes) if (!this.#toHold.has(change.name)) this.#toHold.set(change.name, change);
      this.#toBury = [...buried, ...this.#toBury];
      this.#toPark = [...parks, ...this.#toPark];
      throw error;
    }
    await checkpoint('holds:after-write');
    feed.forget([...parks, ...buried.filter(({ parkedUnder }) => parkedUnder === undefined).map(({ row }) => row)]);
    for (const { head, attempts, error } of holds) {
      if (head) this.#options.events.emit('message:held', { topic: head.topic, key: head.message_key ?? undefined, attempts, error });
    }
    for (const { row, reason, error } of buried) {
      const message = { id: row.message_id, topic: row.topic, key: row.message_key ?? undefined };
      this.#options.logger.warn(
        { ...message, reason, error: error.message },
        'a message was set aside in outbox_dead; redrive it once the cause is fixed',
      );
      this.#options.events.emit('message:dead', { ...message, reason, error });
    }
  }

  async #unpark(): Promise<void> {
    for (const [name, rows] of [...this.#toUnpark]) {
      // Rows that are published meanwhile start a new list.
      this.#toUnpark.delete(name);
      await checkpoint('holds:before-unpark');
      try {
        await this.#table.unpark(Number(rows[0]?.lane), name, rows);
      } catch (error) {
        this.#toUnpark.set(name, [...rows, ...(this.#toUnpark.get(name) ?? [])]);
        throw error;
      }
    }
  }

  async #read(): Promise<void> {
    for (const name of [...this.#toRead]) {
      const line = this.#lines.get(name);
      if (!line?.draining || this.#toUnpark.has(name)) {
        if (!line?.draining) this.#toRead.delete(name);
        continue;
      }
      // After a refusal only the first message of the line is tried.
      const rows = await this.#table.parked(line.lane, name, line.tries > 0 ? 1 : pageRows, pageBytes);
      this.#toRead.delete(name);
      if (this.#lines.get(name) !== line) continue;
      if (rows.length > 0) {
        this.#queue.push(rows, name);
        this.#options.onReady();
      } else if (this.#options.feed().holds(line.lane)) await this.#release(line);
    }
  }

  async #release(line: HeldLine): Promise<void> {
    const { lane, name } = line;
    const feed = this.#options.feed();
    let released: boolean;
    try {
      const lease = feed.lease(lane);
      if (!lease) throw new LeaseLostError(`The lease of lane ${lane} has expired.`);
      released = await feed.database.transaction(async (sql) => {
        await feed.leases.fence(sql, lease);
        const empty = await this.#table.release(sql, lane, name);
        await checkpoint('holds:before-release');
        return empty;
      });
      await checkpoint('holds:after-release');
    } catch (error) {
      // The release may have been committed. The hold is stored again, or rows parked from now on would never be read.
      if (!this.#toHold.has(name))
        this.#toHold.set(name, { lane, name, waitMs: 0, attempts: line.attempts, error: storedError(error), head: undefined });
      this.#toRead.add(name);
      throw error;
    }
    if (!released) {
      this.#toRead.add(name);
      return;
    }
    this.#lines.delete(name);
    // Rows that were read while the hold ended go before rows that are read from now on.
    this.#requeue((row) => orderName(row) === name);
    this.#options.onReady();
  }
}
