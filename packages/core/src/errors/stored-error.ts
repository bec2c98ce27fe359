import { cleanText } from './clean-text.ts';

/** An error as it is stored in a row: of limited size, clean, and without a stack. */
export interface StoredError {
  readonly name: string;
  readonly code?: string;
  readonly message: string;
}

const maxMessageLength = 2000;

/** Converts anything that was thrown to an error that can be stored: no NUL, no lone surrogates, at most 2,000 characters of message. */
export function storedError(thrown: unknown): StoredError {
  if (!(thrown instanceof Error)) return { name: 'NonError', message: cut(safeString(thrown)) };
  const code = (thrown as { code?: unknown }).code;
  return {
    name: cut(thrown.name, 100),
    ...(typeof code === 'string' || typeof code === 'number' ? { code: cut(String(code), 100) } : {}),
    message: cut(thrown.message),
  };
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
