/** Says that a row may be run. Only its id travels: the row is the truth. */
export interface Hint {
  readonly type: string;
  readonly id: string;
}

/**
 * Carries hints from those who submit to the workers. Hints may be lost, repeated and reordered: losing one costs latency,
 * never work, and one for a row that somebody else has is taken for done. In-process hints, and on Postgres LISTEN, are
 * always on; a port for brokers comes on top, for those who have one and many idle workers.
 */
export interface Hints {
  /** Called after the root transaction has committed. Must not throw; nobody waits for it. */
  send(hints: readonly Hint[]): void;
  /** Calls `listener` with what arrives; returns the function that removes it. */
  listen(listener: (hints: readonly Hint[]) => void): () => void;
}

/** How a hint travels as a note of a waker. */
export function hintNote({ type, id }: Hint): string {
  return `${id} ${type}`;
}

/** @returns `undefined` for a note that is none of ours. */
export function parseHint(note: string): Hint | undefined {
  const space = note.indexOf(' ');
  const id = note.slice(0, space);
  return space > 0 && /^\d{1,20}$/.test(id) ? { id, type: note.slice(space + 1) } : undefined;
}
