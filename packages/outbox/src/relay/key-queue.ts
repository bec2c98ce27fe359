import { type OutboxRow, orderName } from '../table/message-columns.ts';

/** The messages of one line, the first of which may be under way. */
export interface KeyLine {
  readonly name: string;
  readonly lane: number;
  rows: OutboxRow[];
  /** The number of its first rows that are being published. */
  underWay: number;
  /** True if the line may not be taken, since its last try failed. */
  waiting: boolean;
}

/** The limits of a batch, and the lanes that may be sent. */
export interface TakeOptions {
  /** Messages in the batch, at most. */
  readonly rows: number;
  /** Bytes of the bodies in the batch, about. A single message may be larger. */
  readonly bytes: number;
  /** Allows several messages of a line in one batch. */
  readonly wholeLines: boolean;
  /** Returns whether messages of the lane may be sent now. */
  readonly mayTake: (lane: number) => boolean;
}

/** Rows of one line that were taken for a publish. */
export interface Taken {
  readonly line: KeyLine;
  readonly rows: readonly OutboxRow[];
}

/**
 * Rows that were read and are not yet published, in lines. A line is in at most one batch at a time. Lines take turns, in the order in
 * which they became ready.
 */
export class KeyQueue {
  readonly #lines = new Map<string, KeyLine>();
  readonly #ready = new Set<KeyLine>();
  #idle: (() => void)[] = [];
  #underWay = 0;

  /** The number of lines that may be taken. */
  get ready(): number {
    return this.#ready.size;
  }

  /** The rows that are being published. */
  underWay(): OutboxRow[] {
    return [...this.#lines.values()].flatMap((line) => line.rows.slice(0, line.underWay));
  }

  /** Adds rows to their lines, or to the line `name`. */
  push(rows: readonly OutboxRow[], name?: string): void {
    for (const row of rows) {
      const of = name ?? orderName(row);
      const line = this.#lines.get(of);
      if (line) {
        insertInOrder(line, row);
        if (line.underWay === 0 && !line.waiting) this.#ready.add(line);
      } else {
        const fresh: KeyLine = { name: of, lane: Number(row.lane), rows: [row], underWay: 0, waiting: false };
        this.#lines.set(of, fresh);
        this.#ready.add(fresh);
      }
    }
  }

  /** Takes the first rows of ready lines, up to the limits. */
  take(options: TakeOptions): Taken[] {
    const taken: Taken[] = [];
    let rows = 0;
    let bytes = 0;
    for (const line of this.#ready) {
      if (rows >= options.rows || bytes >= options.bytes) break;
      if (!options.mayTake(line.lane)) continue;
      let count = 0;
      do {
        bytes += line.rows[count]?.body.byteLength ?? 0;
        if (rows + count > 0 && bytes > options.bytes) break;
        count += 1;
      } while (options.wholeLines && count < line.rows.length && rows + count < options.rows);
      if (count === 0) break;
      rows += count;
      line.underWay = count;
      this.#ready.delete(line);
      taken.push({ line, rows: count === line.rows.length ? line.rows.slice() : line.rows.slice(0, count) });
    }
    this.#underWay += taken.length;
    return taken;
  }

  /** Ends the turn of a line: of the taken rows only `still` stay in the queue. A line that `waits` is not ready before `resume`. */
  ended({ line, rows: taken }: Taken, still: readonly OutboxRow[], waits: boolean): void {
    const rest = line.rows.length === taken.length ? [] : line.rows.slice(taken.length);
    const kept = still.length === 0 ? rest : [...still, ...rest];
    line.rows = kept;
    line.underWay = 0;
    line.waiting = waits;
    this.#underWay -= 1;
    if (kept.length === 0 && !waits) this.#lines.delete(line.name);
    else if (!waits) this.#ready.add(line);
    if (this.#idle.length > 0) {
      const idle = this.#idle;
      this.#idle = [];
      for (const resolve of idle) resolve();
    }
  }

  /** Makes a waiting line ready again. */
  resume(name: string): void {
    const line = this.#lines.get(name);
    if (!line) return;
    line.waiting = false;
    if (line.rows.length === 0 && line.underWay === 0) this.#lines.delete(name);
    else if (line.underWay === 0) this.#ready.add(line);
  }

  has(name: string): boolean {
    return this.#lines.has(name);
  }

  /** Removes and returns the rows of a line, except those under way. */
  extract(name: string): OutboxRow[] {
    const line = this.#lines.get(name);
    if (!line) return [];
    const rows = line.rows.slice(line.underWay);
    line.rows = line.rows.slice(0, line.underWay);
    if (line.underWay === 0) {
      this.#ready.delete(line);
      this.#lines.delete(name);
    }
    return rows;
  }

  /** Removes and returns the rows of a lane, except those under way. */
  extractLane(lane: number): OutboxRow[] {
    const rows: OutboxRow[] = [];
    for (const line of [...this.#lines.values()]) if (line.lane === lane) rows.push(...this.extract(line.name));
    return rows;
  }

  /** Resolves when no row of the lane, or of any lane, is under way. */
  async quiet(lane?: number): Promise<void> {
    const busy = (): boolean => {
      if (lane === undefined) return this.#underWay > 0;
      for (const line of this.#lines.values()) if (line.lane === lane && line.underWay > 0) return true;
      return false;
    };
    while (busy()) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}

/** Inserts by id: at the end as a rule. A lower id that was committed late goes before all rows that are not under way. */
function insertInOrder(line: KeyLine, row: OutboxRow): void {
  let at = line.rows.length;
  while (at > line.underWay && isBefore(row.id, line.rows[at - 1]?.id ?? '')) at -= 1;
  if (at === line.rows.length) line.rows.push(row);
  else line.rows.splice(at, 0, row);
}

/** Compares decimal numbers without leading zeros. */
function isBefore(a: string, b: string): boolean {
  return a.length === b.length ? a < b : a.length < b.length;
}
