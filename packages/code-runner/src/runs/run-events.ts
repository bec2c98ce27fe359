import { type Ending, type Phase, stateOf } from './states.ts';

/** An event to append: a change of state, or printed bytes. */
export interface NewEvent {
  readonly kind: 'state' | 'stdout' | 'stderr' | 'marker';
  readonly content: Uint8Array;
}

/** SQL that inserts a state event for each row of `u`, numbered with its `last_seq`. */
export function insertStateEvent(events: string, content: string): string {
  return `INSERT INTO ${events} (run_id, seq, at_ms, kind, content) SELECT u.id, u.last_seq, {now}, 'state', ${content} FROM u`;
}

/** SQL that inserts `count` events for the one row of `u`. Its parameters are kind and content of each. */
export function insertEvents(events: string, count: number): string {
  const values = Array.from({ length: count }, (_, i) => `(${i + 1}, ?::text, ?::bytea)`).join(', ');
  return `INSERT INTO ${events} (run_id, seq, at_ms, kind, content) SELECT u.id, u.last_seq - ${count} + v.i, {now}, v.kind, v.content FROM u, (VALUES ${values}) AS v(i, kind, content)`;
}

/** The content of a state event: JSON that readers get. */
export function stateContent(phase: Phase, ending: Ending | null): Buffer {
  const event = ending
    ? {
        phase,
        state: ending.state,
        reason: ending.reason,
        message: ending.message,
        exitCode: ending.exitCode ?? null,
        signal: ending.signal ?? null,
      }
    : { phase, state: stateOf(phase) };
  return Buffer.from(JSON.stringify(event));
}

export function newStateEvent(phase: Phase, ending: Ending | null): NewEvent {
  return { kind: 'state', content: stateContent(phase, ending) };
}
