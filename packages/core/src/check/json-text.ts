import { cleanText, unfitText } from '../errors/clean-text.ts';

/** Data as JSON, or the reason why it can't be stored. */
export type JsonText = { readonly text: string; readonly bytes: number } | { readonly problem: string; readonly cause?: unknown };

/**
 * Writes plain data as JSON of at most `maxBytes` that every database stores and returns unchanged. A problem begins with a verb, so that the
 * caller can put the name of the value before it.
 */
export function jsonText(data: unknown, maxBytes: number, limitName: string): JsonText {
  let text: string | undefined;
  try {
    text = JSON.stringify(data);
  } catch (cause) {
    return {
      problem: `can't be written as JSON: ${cleanText(String((cause as Error | undefined)?.message ?? cause))}. Pass plain data (bigint as text, no cycles).`,
      cause,
    };
  }
  if (text === undefined) return { problem: `is ${typeof data}, which JSON does not have. Pass plain data.` };
  // JSON.stringify escapes NUL and lone surrogates, so the values themselves are checked.
  if (text.includes('\\u')) {
    const unfit = findUnfit(data);
    if (unfit) return { problem: `holds ${unfit}; databases refuse or change it. Remove it, or encode binary data as base64.` };
  }
  const bytes = Buffer.byteLength(text);
  if (bytes > maxBytes)
    return { problem: `is ${bytes} bytes; the limit is ${maxBytes} (${limitName}). Store the data elsewhere and pass its key.` };
  return { text, bytes };
}

function findUnfit(value: unknown): string | undefined {
  if (typeof value === 'string') return unfitText(value);
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    const unfit = unfitText(key) ?? findUnfit(inner);
    if (unfit) return unfit;
  }
  return undefined;
}
