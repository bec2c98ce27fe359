import { type Ending, type Phase, stateOf } from './states.ts';

/** An event that is appended: a change of state, or what a program printed. */
export interface NewEvent {
  readonly kind: 'state' | 'stdout' | 'stderr' | 'marker';
  readonly content: Uint8Array;
}

/** Inserts one event of state for each row of `u`, whose number is the last. */
export function insertStateEvent(events: string, content: string): string {
  return `INSERT INTO ${events} (run_id, seq, at_ms, kind, content) SELECT u.id, u.last_seq, {now}, 'state', ${content} FROM u`;
}

/** Inserts events for the one row of `u`: parameters are kind and content of each. */
export function insertEvents(events: string, count: number): string {
  const values = Array.from({ length: count }, (_, i) => `(${i + 1}, ?::text, ?::bytea)`).join(', ');
  return `INSERT INTO ${events} (run_id, seq, at_ms, kind, content) SELECT u.id, u.last_seq - ${count} + v.i, {now}, v.kind, v.content FROM u, (VALUES ${values}) AS v(i, kind, content)`;
}

/** What readers are told of a change. */
export function stateEvent(phase: Phase, ending: Ending | null): Buffer {
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

export function stateNews(phase: Phase, ending: Ending | null): NewEvent {
  return { kind: 'state', content: stateEvent(phase, ending) };
}
