import type { KnownRows } from './known-rows.ts';
import { rowOverheadBytes, type SizedLaneRow } from './lane-rows.ts';

/**
 * Picks the rows that fit into `roomBytes`, of each lane from its beginning; known rows are kept, and take no room. Each lane gets the same share,
 * and at least one row while there is room. A row that is larger than the room is read alone, when no other row is known. A lane whose next row
 * found no room comes first in the next read, and if there is still none, no lane after it gets a row: small rows would always be the first to
 * fit.
 * @param lanes in the order of `listed`
 * @param waited the lanes whose next row found no room in the last read
 * @returns the rows, the lanes of which rows were left out, and those whose next row found no room
 */
export function fittingRows(
  listed: readonly SizedLaneRow[],
  lanes: readonly number[],
  known: KnownRows,
  roomBytes: number,
  waited: ReadonlySet<number> = new Set(),
): { readonly rows: readonly SizedLaneRow[]; readonly cut: ReadonlySet<number>; readonly waits: ReadonlySet<number> } {
  const bytesOf = new Map<number, number>();
  const waits = new Set<number>();
  let closed = false;
  const cut = new Set<number>();
  const share = roomBytes / lanes.length;
  const rows: SizedLaneRow[] = [];
  let total = 0;
  let fresh = 0;
  for (const row of listed) {
    const lane = Number(row.lane);
    if (cut.has(lane)) continue;
    if (!known.has(row.id)) {
      const bytes = Number(row.bytes) + rowOverheadBytes;
      const before = bytesOf.get(lane) ?? 0;
      const fits = before + bytes <= share || (before === 0 && total + bytes <= roomBytes) || (fresh === 0 && known.size === 0);
      if (closed || !fits) {
        cut.add(lane);
        if (before === 0 && (waited.has(lane) || !closed)) waits.add(lane);
        if (before === 0 && waited.has(lane)) closed = true;
        continue;
      }
      bytesOf.set(lane, before + bytes);
      total += bytes;
      fresh += 1;
      if (total > roomBytes) closed = true;
    }
    rows.push(row);
  }
  return { rows, cut, waits };
}
