import {
  type Backoff,
  checkpoint,
  type Events,
  type LaneFeed,
  LeaseLostError,
  type Logger,
  monotonicMs,
  type StoredError,
  storedError,
  wait,
} from '@holdfast/core';
import { type OutboxRow, orderName } from '../table/message-columns.ts';
import type { HoldTable } from './hold-table.ts';
import type { KeyQueue } from './key-queue.ts';
import type { RelayEvents } from './relay-events.ts';

export interface HoldsOptions {
  readonly table: HoldTable;
  readonly feed: () => LaneFeed<OutboxRow>;
  readonly queue: KeyQueue;
  readonly events: Events<RelayEvents>;
  readonly backoff: Backoff;
  readonly onPoison: 'continue' | 'hold-key';
  /** Grows whenever the broker takes anything: a refusal counts as an attempt only if it did so since the one before. */
  readonly proof: () => number;
  /** Something may be taken from the queue. */
  readonly onReady: () => void;
  readonly logger: Logger;
}

interface Held {
  readonly lane: number;
  readonly name: string;
  /** Refusals while the broker took other messages: those that count. */
  attempts: number;
  /** Refusals in a row, for the pause between tries. */
  tries: number;
  /** What {@link HoldsOptions.proof} gave at the last refusal. */
  proof: number;
  /** Monotonic; infinite until somebody releases it. */
  dueAt: number;
  draining: boolean;
}

interface Change {
  readonly lane: number;
  readonly name: string;
  readonly waitMs: number | undefined;
  readonly attempts: number;
  readonly error: StoredError;
  /** The first message of the line, for the event. */
  readonly head: OutboxRow | undefined;
}

interface Burial {
  readonly row: OutboxRow;
  readonly parkedUnder: string | undefined;
  readonly reason: string;
  readonly error: StoredError;
}

const pageRows = 200;
/** A line that fails for the first time waits in memory for this long: most failures are over by then. */
const firstWaitMs = 100;

/**
 * Lines whose first message the broker does not take. The whole line waits, and no other: its rows leave the lane for a
 * parked list, so that a hundred thousand of them are not in anybody's way, and are published from there, in order, before the
 * hold ends.
 *
 * ```
 * free --fails--> waits 100 ms in memory --fails--> held (rows parked) --due--> draining --parked list empty--> free
 *                                                     ^------- fails --------------'
 * ```
 * All changes go through one queue, one after another: a row that arrives while its line is being released is either parked before
 * the release looks at the parked list, or is published after it.
 */
export class Holds {
  readonly #options: HoldsOptions;
  readonly #held = new Map<string, Held>();
  /** Lanes whose holds are known. */
  readonly #loaded = new Set<number>();
  readonly #toLoad = new Set<number>();
  readonly #toHold = new Map<string, Change>();
  #toPark: OutboxRow[] = [];
  #toBury: Burial[] = [];
  readonly #toUnpark = new Map<string, OutboxRow[]>();
  readonly #toRead = new Set<string>();
  /** Lines that were refused once, with the proof of that moment. */
  readonly #strikes = new Map<string, { readonly lane: number; readonly proof: number }>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #due: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: HoldsOptions) {
    this.#options = options;
  }

  open(): void {
    this.#closed = false;
  }

  /** Whether it is known what of the lane is held. */
  knows(lane: number): boolean {
    return this.#loaded.has(lane);
  }

  /** The lane is ours: what of it is held must be read before any of it is published. */
  taken(lane: number): void {
    this.#toLoad.add(lane);
    this.#run();
  }

  lost(lane: number): void {
    this.#loaded.delete(lane);
    this.#toLoad.delete(lane);
    for (const held of [...this.#held.values()]) if (held.lane === lane) this.#held.delete(held.name);
    for (const [name, strike] of this.#strikes) if (strike.lane === lane) this.#strikes.delete(name);
  }

  /** Rows as they were read: those of held lines are parked, the others returned. */
  admit(rows: readonly OutboxRow[]): readonly OutboxRow[] {
    if (this.#held.size === 0) return rows;
    const free: OutboxRow[] = [];
    for (const row of rows) {
      if (this.#held.has(orderName(row))) this.#toPark.push(row);
      else free.push(row);
    }
    if (free.length < rows.length) this.#run();
    return free;
  }

  isHeld(name: string): boolean {
    return this.#held.has(name);
  }

  /** The head of a line was refused. Returns whether the line stays in memory, to be resumed. */
  failed(name: string, lane: number, head: OutboxRow, error: StoredError, counts: boolean): boolean {
    const { backoff, proof, queue, onReady } = this.#options;
    const held = this.#held.get(name);
    const struck = this.#strikes.get(name);
    if (!held && struck === undefined) {
      this.#strikes.set(name, { lane, proof: proof() });
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        queue.resume(name);
        onReady();
      }, firstWaitMs);
      this.#timers.add(timer);
      return true;
    }
    this.#strikes.delete(name);
    const counted = counts && proof() !== (held?.proof ?? struck?.proof);
    const attempts = (held?.attempts ?? 0) + (counted ? 1 : 0);
    const tries = (held?.tries ?? 0) + 1;
    if (attempts >= backoff.maxAttempts) {
      this.#toBury.push({ row: head, parkedUnder: held ? name : undefined, reason: 'exhausted', error });
      this.#hold({ lane, name, waitMs: 0, attempts: 0, error, head: undefined }, 0);
    } else this.#hold({ lane, name, waitMs: this.#pauseMs(tries), attempts, error, head }, tries);
    return false;
  }

  /** The head of a line can never be published. */
  poisoned(name: string, lane: number, row: OutboxRow, error: StoredError): void {
    this.#toBury.push({ row, parkedUnder: this.#held.has(name) ? name : undefined, reason: 'poison', error });
    if (this.#options.onPoison === 'hold-key' && row.message_key !== null)
      this.#hold({ lane, name, waitMs: undefined, attempts: 0, error, head: row }, 0);
    this.#run();
  }

  /** Rows whose line is held by now. */
  park(rows: readonly OutboxRow[]): void {
    this.#toPark.push(...rows);
    this.#run();
  }

  /** Published: a line of parked rows goes on with the next, and its hold ends when there is none. */
  published(name: string, rows: readonly OutboxRow[]): void {
    this.#strikes.delete(name);
    const held = this.#held.get(name);
    if (!held) return;
    held.attempts = 0;
    held.tries = 0;
    if (rows.length === 0) return;
    const list = this.#toUnpark.get(name);
    if (list) list.push(...rows);
    else this.#toUnpark.set(name, [...rows]);
    this.#run();
  }

  /** All that was read of a parked line is through. */
  drained(name: string): void {
    if (!this.#held.get(name)?.draining) return;
    this.#toRead.add(name);
    this.#run();
  }

  /** Looks at the stored holds again: somebody released one. */
  reload(lanes: readonly number[]): void {
    for (const lane of lanes) if (this.#loaded.has(lane)) this.#toLoad.add(lane);
    this.#run();
  }

  /** Resolves when what was said so far is stored, or can't be. */
  async flush(): Promise<void> {
    await this.#running;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    clearTimeout(this.#due);
    this.#due = undefined;
    await this.#running;
    this.#held.clear();
    this.#strikes.clear();
    this.#loaded.clear();
    this.#toLoad.clear();
    this.#toHold.clear();
    this.#toRead.clear();
    this.#toUnpark.clear();
    this.#toPark = [];
    this.#toBury = [];
  }

  /** A schedule with an end gives the pause before its last attempt for good: it is the attempts that end. */
  #pauseMs(tries: number): number {
    const { backoff } = this.#options;
    for (let n = tries; n > 0; n--) {
      const ms = backoff.delayMs(n);
      if (ms !== undefined) return ms;
    }
    return 1_000;
  }

  #hold(change: Change, tries: number): void {
    const { lane, name, attempts } = change;
    const dueAt = change.waitMs === undefined ? Number.POSITIVE_INFINITY : monotonicMs() + change.waitMs;
    const proof = this.#options.proof();
    this.#held.set(name, { lane, name, attempts, tries, proof, dueAt, draining: false });
    this.#toHold.set(name, change);
    this.#run();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#closed) return;
    let next = Number.POSITIVE_INFINITY;
    for (const { dueAt, draining } of this.#held.values()) if (!draining && dueAt < next) next = dueAt;
    clearTimeout(this.#due);
    this.#due = undefined;
    if (next < Number.POSITIVE_INFINITY)
      this.#due = setTimeout(() => this.#drainDue(), Math.min(60_000, Math.max(1, next - monotonicMs())));
  }

  #drainDue(): void {
    const now = monotonicMs();
    for (const held of this.#held.values()) {
      if (held.draining || held.dueAt > now || !this.#loaded.has(held.lane)) continue;
      held.draining = true;
      this.#toRead.add(held.name);
    }
    this.#run();
    this.#schedule();
  }

  #run(): void {
    this.#running ??= this.#work();
  }

  async #work(): Promise<void> {
    await undefined;
    for (let pauseMs = 50; this.#pending() && !this.#closed; ) {
      try {
        await this.#load();
        await this.#write();
        await this.#unpark();
        await this.#read();
        pauseMs = 50;
      } catch (err) {
        this.#options.logger.debug({ err }, 'held messages could not be moved yet');
        await wait(pauseMs);
        pauseMs = Math.min(pauseMs * 2, 2_000);
      }
    }
    // What is acked leaves its list even when we stop: otherwise it is published again.
    if (this.#closed) await this.#unpark().catch((err) => this.#options.logger.debug({ err }, 'published messages stay parked'));
    // In the turn in which nothing was pending: what comes after it begins a run of its own.
    this.#running = undefined;
  }

  #pending(): boolean {
    return this.#toLoad.size + this.#toHold.size + this.#toPark.length + this.#toBury.length + this.#toUnpark.size + this.#toRead.size > 0;
  }

  async #load(): Promise<void> {
    for (const lane of [...this.#toLoad]) {
      const lines = await this.#options.table.load(lane);
      if (!this.#toLoad.delete(lane)) continue;
      for (const { name, waitMs, attempts } of lines) {
        const dueAt = waitMs === undefined ? Number.POSITIVE_INFINITY : monotonicMs() + waitMs;
        const known = this.#held.get(name);
        if (known) {
          if (!known.draining && dueAt < known.dueAt) known.dueAt = dueAt;
        } else this.#held.set(name, { lane, name, attempts, tries: attempts, proof: this.#options.proof(), dueAt, draining: false });
        // What was read before it was known that the line is held.
        if (!known) this.#toPark.push(...this.#options.queue.extract(name));
      }
      // Left from before the lane was lost and came back: it goes before all that is read from now on, of which nothing is under way.
      const free = this.#toPark.filter((row) => Number(row.lane) === lane && !this.#held.has(orderName(row)));
      if (free.length > 0) {
        this.#toPark = this.#toPark.filter((row) => Number(row.lane) !== lane || this.#held.has(orderName(row)));
        this.#options.queue.push(free);
      }
      this.#loaded.add(lane);
      this.#schedule();
      this.#options.onReady();
    }
  }

  async #write(): Promise<void> {
    const feed = this.#options.feed();
    const changes = [...this.#toHold.values()];
    this.#toHold.clear();
    const burials = this.#toBury;
    this.#toBury = [];
    const incoming = this.#toPark;
    this.#toPark = [];
    // A lane whose lease we are not sure of at the moment is neither written nor given up: it is renewed, or lost.
    const ours = (lane: number): boolean => feed.holds(Number(lane));
    const parks = incoming.filter((row) => ours(row.lane) && this.#held.has(orderName(row)));
    // The lane was lost and came back in this moment.
    this.#options.queue.push(incoming.filter((row) => ours(row.lane) && !this.#held.has(orderName(row))));
    // Whoever has the lane next reads them where they are.
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
          if (!lease) throw new LeaseLostError(`The lease of lane ${lane} has run out.`);
          await feed.leases.fence(sql, lease);
        }
        for (const { lane, name, waitMs, attempts, error } of holds)
          await this.#options.table.hold(sql, lane, name, waitMs, attempts, error);
        for (const { row, parkedUnder, reason, error } of buried) await this.#options.table.bury(sql, row, parkedUnder, reason, error);
        if (parks.length > 0) await this.#options.table.park(sql, parks);
      });
    } catch (error) {
      // Nothing of it was stored; said again, less what is of lost lanes.
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
    for (const { row, reason, error } of buried)
      this.#options.events.emit('message:dead', { id: row.message_id, topic: row.topic, key: row.message_key ?? undefined, reason, error });
  }

  async #unpark(): Promise<void> {
    for (const [name, rows] of [...this.#toUnpark]) {
      // What is published meanwhile makes a list of its own.
      this.#toUnpark.delete(name);
      await checkpoint('holds:before-unpark');
      try {
        await this.#options.table.unpark(Number(rows[0]?.lane), name, rows);
      } catch (error) {
        this.#toUnpark.set(name, [...rows, ...(this.#toUnpark.get(name) ?? [])]);
        throw error;
      }
    }
  }

  async #read(): Promise<void> {
    const { queue, table } = this.#options;
    const feed = this.#options.feed();
    for (const name of [...this.#toRead]) {
      const held = this.#held.get(name);
      if (!held?.draining || this.#toUnpark.has(name)) {
        if (!held?.draining) this.#toRead.delete(name);
        continue;
      }
      // A line that failed is tried with its first message alone.
      const rows = await table.parked(held.lane, name, held.tries > 0 ? 1 : pageRows);
      this.#toRead.delete(name);
      if (this.#held.get(name) !== held) continue;
      if (rows.length > 0) {
        queue.push(rows, name);
        this.#options.onReady();
        continue;
      }
      if (!feed.holds(held.lane)) continue;
      let released: boolean;
      try {
        const lease = feed.lease(held.lane);
        if (!lease) throw new LeaseLostError(`The lease of lane ${held.lane} has run out.`);
        released = await feed.database.transaction(async (sql) => {
          await feed.leases.fence(sql, lease);
          const empty = await table.release(sql, held.lane, name);
          await checkpoint('holds:before-release');
          return empty;
        });
        await checkpoint('holds:after-release');
      } catch (error) {
        // It may have been committed: what is parked from now on must find its hold there again, or nobody would look for it.
        const { lane, attempts } = held;
        if (!this.#toHold.has(name))
          this.#toHold.set(name, { lane, name, waitMs: 0, attempts, error: storedError(error), head: undefined });
        this.#toRead.add(name);
        throw error;
      }
      if (released) {
        this.#held.delete(name);
        // What was read while the hold ended goes before what is read from now on.
        const waiting = this.#toPark.filter((row) => orderName(row) === name);
        if (waiting.length > 0) {
          this.#toPark = this.#toPark.filter((row) => orderName(row) !== name);
          queue.push(waiting);
        }
        this.#options.onReady();
      } else this.#toRead.add(name);
    }
  }
}
