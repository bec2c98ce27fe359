const nul = String.fromCharCode(0);

/** Replaces NUL characters and lone surrogates, which Postgres `text` and UTF-8 encoders refuse, by U+FFFD. */
export function cleanText(text: string): string {
  return text.toWellFormed().replaceAll(nul, '\uFFFD');
}

/** Describes the first character that makes a text unfit for storage. Returns `undefined` if there is none. */
export function unfitText(text: string): string | undefined {
  const at = text.indexOf(nul);
  if (at >= 0) return `a NUL character at offset ${at}`;
  if (!text.isWellFormed()) return 'a lone surrogate (half of a UTF-16 pair)';
  return undefined;
}
