import { InvalidPathError } from '../errors.ts';

export const pathLimits = { segmentBytes: 255, pathBytes: 1_024, depth: 32 } as const;

/** Invisible characters that change the direction of text, and so make a name look like another. */
const bidi = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these must not occur
const control = /[\u0000-\u001f\u007f-\u009f]/u;

/**
 * Returns a file's path as it is stored: segments with `/` between them, in NFC.
 * @throws InvalidPathError that names the rule that the path breaks
 */
export function filePath(text: string): string {
  if (typeof text !== 'string' || text === '') throw refused(text, 'it is empty');
  if (!text.isWellFormed()) throw refused(text, 'it has half of a surrogate pair, which is not a character');
  const path = text.normalize('NFC');
  if (control.test(path)) throw refused(text, 'it has a control character');
  if (bidi.test(path)) throw refused(text, 'it has a character that changes the direction of text');
  if (path.includes('\\')) throw refused(text, 'it has a backslash; separate folders by /');
  if (path.startsWith('/')) throw refused(text, 'it starts with /; paths are relative to the task');
  if (/^[A-Za-z]:/.test(path)) throw refused(text, 'it starts with a drive; paths are relative to the task');
  if (Buffer.byteLength(path) > pathLimits.pathBytes)
    throw refused(text, `it has ${Buffer.byteLength(path)} bytes; at most ${pathLimits.pathBytes} fit`);
  const segments = path.split('/');
  if (segments.length > pathLimits.depth)
    throw refused(text, `it is ${segments.length} levels deep; at most ${pathLimits.depth} are allowed`);
  for (const segment of segments) {
    if (segment === '') throw refused(text, 'it has an empty part: two / in a row, or one at its end');
    if (segment === '.' || segment === '..') throw refused(text, `it has a part ${segment}; give the path without it`);
    if (/[. ]$/.test(segment))
      throw refused(text, `its part ${JSON.stringify(segment)} ends with a dot or a space, which some systems drop`);
    if (Buffer.byteLength(segment) > pathLimits.segmentBytes)
      throw refused(
        text,
        `its part ${JSON.stringify(`${segment.slice(0, 20)}…`)} has ${Buffer.byteLength(segment)} bytes; at most ${pathLimits.segmentBytes} fit`,
      );
  }
  return path;
}

/** Folds upper and lower case, in every script: paths that some file systems can't distinguish get the same text. */
export function foldedPath(path: string): string {
  // Upper case first, so that ß, ẞ and ss, ſ and s, and ς and σ fold to the same.
  return path.toUpperCase().toLowerCase().normalize('NFC');
}

/** The folders of a path, from the outermost. */
export function foldersOf(path: string): readonly string[] {
  const segments = path.split('/').slice(0, -1);
  return segments.map((_, i) => segments.slice(0, i + 1).join('/'));
}

/** The text after the last dot of a name; empty without a dot, or if the dot is the first character. */
export function fileTypeOf(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  return dot <= 0 ? '' : name.slice(dot + 1);
}

function refused(path: unknown, why: string): InvalidPathError {
  const shown = typeof path === 'string' ? JSON.stringify(path.length > 80 ? `${path.slice(0, 80)}…` : path) : String(path);
  return new InvalidPathError(`The path ${shown} can't be used: ${why}.`);
}
