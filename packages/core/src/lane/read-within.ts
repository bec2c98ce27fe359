import type { Database } from '../database/database.ts';
import { fittingRows } from './fitting-rows.ts';
import type { KnownRows } from './known-rows.ts';
import { type LaneCursor, type LaneRow, type LaneTableShape, readLaneRows, readLaneSizes, readLanes } from './lane-rows.ts';

/** Bytes of the large columns in memory, at most. One row may be larger, and a short read of quiet lanes, which asks for no sizes first. */
export const windowBytes: number = 16 * 2 ** 20;
/** Rows of one lane that are read at once, at most. */
const pageRows = 500;
/** Rows that a quiet lane is expected to have at most, and such lanes. Together they are read with their bodies, in one statement. */
const shortRead = { rows: 8, lanes: 4 };

/** The rows, and the bytes of their large columns, that a read may add to memory. */
export interface Room {
  readonly rows: number;
  readonly bytes: number;
}

/** The result of one read. */
export interface ReadRows<Row> {
  /** By id within each lane. `found`: how many rows the lane had, if the read cut it by its bytes. */
  readonly listed: readonly (LaneRow & { readonly found?: number | string })[];
  /** The listed rows with all their columns; `undefined` for one that was known, or has gone. */
  readonly rows: readonly (Row | undefined)[];
  /** The most rows of a lane that the read asked for. */
  readonly limit: number;
  /** Lanes of which rows were left for the next read. */
  readonly cut: ReadonlySet<number>;
  /** Those of them whose next row found no room. */
  readonly waits: ReadonlySet<number>;
}

/**
 * Reads the next rows of each lane, within the room that memory has: with their bodies in one statement if they are few or small, else first
 * their sizes and then those that fit.
 * @param cursors `deep`: the last read of the lane left rows; `waits`: its next row found no room, so that the lane stands before the others
 * @param limits.rescan true if the lanes are read from their beginning
 */
export async function readWithin<Row extends LaneRow>(
  { database, shape }: { readonly database: Database; readonly shape: LaneTableShape },
  cursors: readonly (LaneCursor & { readonly deep: boolean; readonly waits: boolean })[],
  limits: { readonly known: KnownRows; readonly room: Room; readonly rescan: boolean },
): Promise<ReadRows<Row>> {
  const { known, room, rescan } = limits;
  const sized = (shape.large ?? []).length > 0;
  const short = sized && !rescan && cursors.length <= shortRead.lanes && room.bytes > windowBytes / 2 && cursors.every(({ deep }) => !deep);
  const limit = Math.max(1, Math.min(pageRows, Math.floor(room.rows / cursors.length), short ? shortRead.rows : Number.POSITIVE_INFINITY));
  // One statement may exceed the room by a row of each lane: it serves while the rows are small.
  const inOne = database.family === 'postgres' && cursors.length * known.largestBytes <= room.bytes / 4;
  if (!sized || short || inOne) {
    const laneBytes = sized ? Math.max(1, Math.floor(room.bytes / cursors.length)) : undefined;
    const rows = await readLanes<Row & { readonly found?: number | string }>(database, shape, cursors, limit, laneBytes);
    return { listed: rows, rows, limit, cut: new Set(), waits: new Set() };
  }
  const sizes = await readLaneSizes(database, shape, cursors, limit);
  const lanes = cursors.map(({ lane }) => lane);
  const waited = new Set(cursors.flatMap(({ lane, waits }) => (waits ? [lane] : [])));
  const { rows: listed, cut, waits } = fittingRows(sizes, lanes, known, room.bytes, waited);
  const unknown = listed.filter(({ id }) => !known.has(id));
  const read = new Map((await readLaneRows<Row>(database, shape, unknown)).map((row) => [row.id, row]));
  return { listed, rows: listed.map(({ id }) => read.get(id)), limit, cut, waits };
}
