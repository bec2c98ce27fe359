import { InvalidArgumentError } from '@holdfast/core';

/**
 * Parses JSON. A whole number that a double does not hold, such as a log id of 2^60 + 1, becomes the text of its digits, which
 * {@link idOf} reads as well.
 * @throws SyntaxError
 */
export function parseExactly(text: string): unknown {
  return JSON.parse(text, (_key: string, value: unknown, context?: { readonly source?: string }) => {
    if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
    const source = context?.source ?? '';
    return /^-?\d+$/.test(source) ? source : value;
  });
}

/** A value that `JSON.stringify` writes as these digits, without quotes. An admin reads its ids as numbers. */
export function digits(id: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(idText('id', id));
}

/**
 * The id that a body has under a name: a whole number above 0 of 64 bits, as text. A number is never calculated with.
 * @throws InvalidArgumentError
 */
export function idOf(body: unknown, name: string): string {
  const value = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[name] : undefined;
  return idText(name, Number.isSafeInteger(value) ? String(value) : value);
}

const greatest = 2n ** 63n - 1n;

function idText(name: string, value: unknown): string {
  if (typeof value === 'string' && /^[1-9]\d{0,18}$/.test(value) && BigInt(value) <= greatest) return value;
  throw new InvalidArgumentError(`${name} is ${String(JSON.stringify(value)).slice(0, 60)}; it must be a whole number above 0.`);
}
