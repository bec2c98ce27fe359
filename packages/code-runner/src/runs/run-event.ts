import type { Phase, Reason, RunState } from './states.ts';

/** An event of a run. `seq` starts at 1 and has no gaps: a reader continues after the last number it has seen. */
export type RunEvent =
  | {
      readonly type: 'state';
      readonly seq: number;
      /** In epoch ms, by the database's clock. */
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
      /** `system` is a message of this service, for example that the output was cut. */
      readonly stream: 'stdout' | 'stderr' | 'system';
      /** The printed bytes, at most 64 KiB. A UTF-8 character is never split over two events. */
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
