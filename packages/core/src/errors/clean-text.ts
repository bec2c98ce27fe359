const nul = String.fromCharCode(0);

/** Replaces what Postgres `text` and UTF-8 encoders refuse (NUL, lone surrogates) by U+FFFD. */
export function cleanText(text: string): string {
  return text.toWellFormed().replaceAll(nul, '\uFFFD');
}

/** Names what makes a text unfit for storage, or returns `undefined` if nothing does. */
export function unfitText(text: string): string | undefined {
  const at = text.indexOf(nul);
  if (at >= 0) return `a NUL character at offset ${at}`;
  if (!text.isWellFormed()) return 'a lone surrogate (half of a UTF-16 pair)';
  return undefined;
}
