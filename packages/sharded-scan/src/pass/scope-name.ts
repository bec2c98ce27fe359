import { createHash } from 'node:crypto';

/** As it fits into its column, and no two the same. */
export function fitsColumn(text: string): string {
  return text.length <= 90 ? text : `${text.slice(0, 60)} ${createHash('sha256').update(text).digest('hex').slice(0, 20)}`;
}
