import { cleanText } from './clean-text.ts';

/** A value that was refused, as an error shows it: at most 60 characters. Never throws, whatever it is given. */
export function shownValue(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(cleanText(value)).slice(0, 60);
  if (typeof value === 'symbol' || typeof value === 'function') return `a ${typeof value}`;
  if (typeof value !== 'object' || value === null) return String(value);
  // As JSON, a date that is none would be null.
  if (value instanceof Date && Number.isNaN(value.getTime())) return 'Invalid Date';
  try {
    return (JSON.stringify(value) ?? 'an object').slice(0, 60);
  } catch {
    return 'an object';
  }
}
