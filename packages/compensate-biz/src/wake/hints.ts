/** The id of a row that may be run. No other column travels: the worker reads the row. */
export interface Hint {
  readonly type: string;
  readonly id: string;
}

/**
 * Carries hints from submitters to workers. Hints may be lost, repeated and reordered: a lost hint costs latency, never work, and a hint
 * for a row that another worker holds is ignored. Hints in the process, and by LISTEN on Postgres, are always on. An implementation over a
 * broker pays where many workers are idle.
 */
export interface Hints {
  /** Sends hints. Called after the root transaction has committed. Must not throw; the submitter does not wait for it. */
  send(hints: readonly Hint[]): void;
  /** Calls `listener` with the hints that arrive. Returns a function that removes the listener. */
  listen(listener: (hints: readonly Hint[]) => void): () => void;
}

/** Writes a hint as a waker's note. */
export function hintNote({ type, id }: Hint): string {
  return `${id} ${type}`;
}

/** Reads a waker's note. Returns `undefined` if the note is not a hint. */
export function parseHint(note: string): Hint | undefined {
  const space = note.indexOf(' ');
  const id = note.slice(0, space);
  return space > 0 && /^\d{1,20}$/.test(id) ? { id, type: note.slice(space + 1) } : undefined;
}
