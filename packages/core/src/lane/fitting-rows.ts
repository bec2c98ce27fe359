import type { KnownRows } from './known-rows.ts';
import { rowOverheadBytes, type SizedLaneRow } from './lane-rows.ts';

/**
 * Picks the rows that fit into `roomBytes`, of each lane from its beginning; known rows are kept, and take no room. Each lane gets the same share,
 * and at least one row while there is room. A row that is larger than the room is read alone, when no other row is known.
 * @returns the rows, and the lanes of which rows were left out
 */
export function fittingRows(
  listed: readonly SizedLaneRow[],
  lanes: readonly number[],
  known: KnownRows,
  roomBytes: number,
): { readonly rows: readonly SizedLaneRow[]; readonly cut: ReadonlySet<number> } {
  const bytesOf = new Map<number, number>();
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
      if (!fits) {
        cut.add(lane);
        continue;
      }
      bytesOf.set(lane, before + bytes);
      total += bytes;
      fresh += 1;
    }
    rows.push(row);
  }
  return { rows, cut };
}
