import type { Phase, Reason, RunState } from './states.ts';

/** What happened in a run, in order: `seq` has no gaps, and goes on where a reader left off. */
export type RunEvent =
  | {
      readonly type: 'state';
      readonly seq: number;
      /** In epoch ms, by the database. */
      readonly at: number;
      readonly phase: Phase;
      readonly state: RunState;
      readonly reason?: Reason | null;
      readonly message?: string;
      readonly exitCode?: number | null;
      readonly signal?: string | null;
    }
  | {
      readonly type: 'log';
      readonly seq: number;
      readonly at: number;
      /** `system`: words of this service, such as that output was cut. */
      readonly stream: 'stdout' | 'stderr' | 'system';
      /** What was printed, exactly; at most 64 KiB, and no letter of UTF-8 is split over two. */
      readonly bytes: Uint8Array;
    };

export type EventKind = 'state' | 'stdout' | 'stderr' | 'marker';

export function eventOf(seq: number, at: number, kind: EventKind, content: Uint8Array): RunEvent {
  if (kind === 'state') {
    const state = JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString()) as {
      phase: Phase;
      state: RunState;
    };
    return { type: 'state', seq, at, ...state };
  }
  return { type: 'log', seq, at, stream: kind === 'marker' ? 'system' : kind, bytes: content };
}
