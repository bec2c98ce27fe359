import { cleanText, InvalidArgumentError } from '@holdfast/core';
import type { Progress } from '../handler.ts';

const noteCharacters = 500;

/** Checks a report, and writes it as JSON. @throws InvalidArgumentError */
export function progressJson(value: Progress): string {
  if (typeof value === 'number') {
    if (value >= 0 && value <= 1) return JSON.stringify(value);
    throw new InvalidArgumentError(`progress is ${value}; give a share from 0 to 1, or { done, total }.`);
  }
  if (typeof value !== 'object' || value === null)
    throw new InvalidArgumentError(`progress is ${String(value).slice(0, 60)}; give a share from 0 to 1, or { done, total, note }.`);
  const { done, total, note } = value;
  for (const [name, count] of Object.entries({ done, total }))
    if (!(count === undefined && name === 'total') && !(typeof count === 'number' && Number.isFinite(count) && count >= 0))
      throw new InvalidArgumentError(`progress.${name} is ${String(count)}; give a number from 0.`);
  if (note !== undefined && (typeof note !== 'string' || note.length > noteCharacters))
    throw new InvalidArgumentError(
      `progress.note is ${typeof note === 'string' ? `${note.length} characters` : typeof note}; give a text of at most ${noteCharacters}.`,
    );
  return JSON.stringify({
    done,
    ...(total === undefined ? {} : { total }),
    ...(note === undefined ? {} : { note: cleanText(note) }),
  });
}
