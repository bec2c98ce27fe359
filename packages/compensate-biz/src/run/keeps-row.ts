import type { ClaimedRow } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';

/**
 * Returns whether a row is kept as SUCCESS. A child of a fan-out with the caller's keys is kept, whatever its type says: as long as items come,
 * its row shows that an item of this key was written. The sweep deletes it once all children are written.
 */
export function keepsRow(type: BizType<unknown, unknown>, row: ClaimedRow): boolean {
  return type.keep || (row.payload.keyed ?? null) !== null;
}
