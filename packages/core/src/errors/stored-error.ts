import { cleanText } from './clean-text.ts';

/** An error as it is stored in a row: of limited size, clean, and without a stack. */
export interface StoredError {
  readonly name: string;
  readonly code?: string;
  readonly message: string;
}

const maxMessageLength = 2000;

/**
 * Converts anything that was thrown to an error that can be stored: no NUL, no lone surrogates, at most 2,000 characters of message. Never
 * throws: the message of an error may be an object, as after `Object.assign(new Error(), answer)`, and a property may throw when it is read.
 */
export function storedError(thrown: unknown): StoredError {
  if (!(thrown instanceof Error)) return { name: 'NonError', message: cut(safeString(thrown)) };
  const code = propertyOf(thrown, 'code');
  return {
    name: cut(safeText(propertyOf(thrown, 'name') ?? 'Error'), 100),
    ...(typeof code === 'string' || typeof code === 'number' ? { code: cut(String(code), 100) } : {}),
    message: cut(safeText(propertyOf(thrown, 'message') ?? '')),
  };
}

/** A property of anything that was thrown; `undefined` if there is none, or if it throws. */
export function propertyOf(thrown: unknown, name: string): unknown {
  try {
    return (thrown as Readonly<Record<string, unknown>> | null | undefined)?.[name];
  } catch {
    return undefined;
  }
}

/** A text as it is, an object as JSON where it can be. */
function safeText(value: unknown): string {
  if (typeof value === 'string') return value;
  try {
    return (typeof value === 'object' ? JSON.stringify(value) : undefined) ?? safeString(value);
  } catch {
    return safeString(value);
  }
}

function safeString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function cut(text: string, length: number = maxMessageLength): string {
  const clean = cleanText(text);
  return clean.length <= length ? clean : cleanText(`${clean.slice(0, length - 1)}…`);
}
