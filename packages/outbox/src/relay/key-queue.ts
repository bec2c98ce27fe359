import { type OutboxRow, orderName } from '../table/message-columns.ts';

/** Messages of one order name, the head of which may be under way. */
export interface KeyLine {
  readonly name: string;
  readonly lane: number;
  rows: OutboxRow[];
  /** How many of its first rows are being published. */
  underWay: number;
  /** Not to be taken though it has rows: its last attempt failed, or its lane is not known yet. */
  waiting: boolean;
}

export interface TakeOptions {
  readonly rows: number;
  readonly bytes: number;
  /** Whether several messages of a line may be in one batch. */
  readonly wholeLines: boolean;
  /** Whether messages of the lane may be sent now. */
  readonly mayTake: (lane: number) => boolean;
}

/** What was taken for one publish. */
export interface Taken {
  readonly line: KeyLine;
  readonly rows: readonly OutboxRow[];
}

/**
 * What has been read and not yet published, in lines by order name. A line is in at most one batch at a time, and takes its turn
 * with the others in the order in which they got something to do.
 */
export class KeyQueue {
  readonly #lines = new Map<string, KeyLine>();
  readonly #ready = new Set<KeyLine>();
  #idle: (() => void)[] = [];
  #underWay = 0;

  /** Whether anything waits to be taken. */
  get ready(): number {
    return this.#ready.size;
  }

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

  /** Ends a turn: of the rows that were taken only those that are `still` there stay, in their order. A line that waits is not ready before `resume`. */
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

  /** A line that waited may be taken again. */
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

  /** Takes a line's rows out, except those under way. */
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

  /** Takes everything of a lane out, except what is under way. */
  extractLane(lane: number): OutboxRow[] {
    const rows: OutboxRow[] = [];
    for (const line of [...this.#lines.values()]) if (line.lane === lane) rows.push(...this.extract(line.name));
    return rows;
  }

  /** Resolves when nothing of the lane, or of any, is under way. */
  async quiet(lane?: number): Promise<void> {
    const busy = (): boolean => {
      if (lane === undefined) return this.#underWay > 0;
      for (const line of this.#lines.values()) if (line.lane === lane && line.underWay > 0) return true;
      return false;
    };
    while (busy()) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}

/** As a rule at the end: a lower id that was committed late goes before what is not under way. */
function insertInOrder(line: KeyLine, row: OutboxRow): void {
  let at = line.rows.length;
  while (at > line.underWay && isBefore(row.id, line.rows[at - 1]?.id ?? '')) at -= 1;
  if (at === line.rows.length) line.rows.push(row);
  else line.rows.splice(at, 0, row);
}

/** Of decimal numbers without leading zeros. */
function isBefore(a: string, b: string): boolean {
  return a.length === b.length ? a < b : a.length < b.length;
}
