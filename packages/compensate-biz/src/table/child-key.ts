import { keyText } from '@holdfast/core';

/** SQL: true for a child with a key of the caller's. The key of any other child is `#` and the position of its item. */
export const keyedSql = "child_key IS NOT NULL AND child_key NOT LIKE '#%'";

/** The `child_key` of an item with a key of the caller's. A mark keeps a key such as `#7` apart from a position. */
export function keyedChild(key: string): string {
  const text = keyText('childKey', key);
  return /^[#=]/.test(text) ? keyText('childKey', `=${text}`) : text;
}

/** The `child_key` of a fan-out that belongs to another. No key of an item begins with these marks: see {@link keyedChild}. */
export function partKey(key: string): string {
  return `=>${key}`;
}
