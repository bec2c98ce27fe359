import type { Writable } from 'node:stream';

/**
 * Returns a function that writes texts of which each replaces the one before. While the reader is behind, only the latest waits, so that a
 * reader that stops reading costs the memory of two texts at most.
 */
export function sendLatest(stream: Writable): (text: string) => void {
  let waiting: string | undefined;
  stream.on('drain', () => {
    if (waiting === undefined) return;
    stream.write(waiting);
    waiting = undefined;
  });
  return (text) => {
    if (stream.destroyed) return;
    if (stream.writableNeedDrain) waiting = text;
    else stream.write(text);
  };
}
