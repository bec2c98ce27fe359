import { durationMs, InvalidArgumentError, keyText, shownValue } from '@holdfast/core';
import type { SubmitOptions } from '../submit-options.ts';

/** A `once` option that was checked. It is stored with the row that a fan-out submits when it completes, so it is plain data. */
export interface OnceKey {
  readonly key: string;
  readonly windowMs: number;
  /** True if the key holds only until its row has ended. */
  readonly pending: boolean;
  /** True if a later submit replaces a row that has not started. */
  readonly replace: boolean;
}

/** The window of a key without `window` or `while`. */
const weekMs = 7 * 86_400_000;
/** The window of a key that holds while its row is pending: ten years. */
const foreverMs = 3650 * 86_400_000;

/** The scope of the `once` keys of a type. */
export function onceScope(type: string): string {
  return `compensate-biz:${type}`;
}

/** Checks a `once` option. @throws InvalidArgumentError */
export function onceKey(once: SubmitOptions['once']): OnceKey | null {
  if (once === undefined) return null;
  if (typeof once !== 'object' || once === null) return { key: keyText('once', once), windowMs: weekMs, pending: false, replace: false };
  const key = keyText('once', once.key);
  const { replace = false, window, while: until } = once as { replace?: unknown; window?: string | number; while?: unknown };
  if (typeof replace !== 'boolean') throw new InvalidArgumentError(`once.replace is ${shownValue(replace)}; give true or false.`);
  if (until !== undefined && until !== 'pending')
    throw new InvalidArgumentError(`once.while is ${shownValue(until)}; give 'pending', or a window.`);
  if (until !== undefined && window !== undefined)
    throw new InvalidArgumentError('once has both a window and while; a key holds for a window, or while its row is pending.');
  const windowMs = until === 'pending' ? foreverMs : window === undefined ? weekMs : durationMs(window as '1s', 'once.window');
  return { key, windowMs, pending: until === 'pending', replace };
}
