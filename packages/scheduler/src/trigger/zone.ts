import { InvalidArgumentError } from '@holdfast/core';

/** Milliseconds since 1970-01-01T00:00Z. */
export type Instant = number;

/** A time that a clock on a wall shows, as milliseconds since 1970-01-01T00:00 of the same clock: it has no zone. */
export type WallTime = number;

/** What one wall time is in a zone: one instant; two, where an hour is repeated; none, where an hour is skipped. */
export type Meaning =
  | { readonly kind: 'once'; readonly at: Instant }
  | { readonly kind: 'twice'; readonly at: Instant; readonly again: Instant }
  | { readonly kind: 'skipped'; readonly resumes: Instant };

const dayMs = 86_400_000;
/** No zone has changed its offset more often than at full quarters of an hour since 1970. */
const stepMs = 900_000;
const maxKept = 4096;

/** A time zone of the IANA database, as Node's own data has it. */
export class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;
  /** Offsets by quarters of an hour, since a question to Intl takes some microseconds. */
  readonly #offsets = new Map<number, number>();

  /** @throws InvalidArgumentError for a name that Node does not know */
  constructor(name: string) {
    try {
      this.#format = new Intl.DateTimeFormat('en-US', {
        timeZone: name,
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      });
    } catch {
      throw new InvalidArgumentError(
        `zone is ${JSON.stringify(name)}, which is not a time zone; use a name such as 'Europe/Berlin' or 'UTC'.`,
      );
    }
    this.name = this.#format.resolvedOptions().timeZone;
  }

  /** The zone by its name; one object for each name. @throws InvalidArgumentError for a name that is not a time zone */
  static of(name: string): Zone {
    const known = zones.get(name);
    if (known) return known;
    const zone = new Zone(name);
    if (zones.size >= maxKept) zones.clear();
    zones.set(name, zone);
    return zone;
  }

  /** The wall time at an instant. */
  wall(at: Instant): WallTime {
    return at + this.#offset(at);
  }

  /** The instants at which the clock of the zone shows a wall time. */
  meaning(wall: WallTime): Meaning {
    const before = this.#offset(wall - dayMs);
    const after = this.#offset(wall + dayMs);
    const found = (before === after ? [before] : [before, after])
      .map((offset) => wall - offset)
      .filter((at) => this.wall(at) === wall)
      .sort((a, b) => a - b);
    const [at, again] = found;
    if (at !== undefined) return again === undefined ? { kind: 'once', at } : { kind: 'twice', at, again };
    return { kind: 'skipped', resumes: this.#change(wall - Math.max(before, after), wall - Math.min(before, after)) };
  }

  /** The first instant, to the second, at which the offset is no longer that of `from`. */
  #change(from: Instant, to: Instant): Instant {
    const old = this.#offset(from);
    let low = Math.floor(from / 1000);
    let high = Math.ceil(to / 1000);
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.#offset(middle * 1000) === old) low = middle;
      else high = middle;
    }
    return high * 1000;
  }

  #offset(at: Instant): number {
    const step = Math.floor(at / stepMs);
    const kept = this.#offsets.get(step);
    if (kept !== undefined) return kept;
    const start = step * stepMs;
    const parts: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(start)) if (type !== 'literal') parts[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
    const offset = Date.UTC(year, month - 1, day, hour, minute, second) - start;
    if (this.#offsets.size >= maxKept) this.#offsets.clear();
    this.#offsets.set(step, offset);
    return offset;
  }
}

const zones = new Map<string, Zone>();
