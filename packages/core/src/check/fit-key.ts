import { createHash } from 'node:crypto';
import { unfitText } from '../errors/clean-text.ts';

const digest = /^sha256:[0-9a-f]{64}$/;

/**
 * A key as a column of `max` characters stores it: itself, or a digest if it is longer or holds what a database refuses (NUL, lone surrogates).
 * Different keys stay different, so a key that looks like a digest is digested, too. `max` is 71 or more.
 */
export function fitKey(key: string, max: number = 191): string {
  const fits = (key.length <= max || [...key].length <= max) && unfitText(key) === undefined && !digest.test(key);
  // As UTF-16, since UTF-8 has one text for all lone surrogates.
  return fits ? key : `sha256:${createHash('sha256').update(Buffer.from(key, 'utf16le')).digest('hex')}`;
}
