import type { TimelineEntry } from '../../src/timeline.ts';
import { wordOf } from './words.ts';

export const lanes = ['order', 'room', 'power', 'bill', 'outbox', 'callbacks'] as const;
export type Lane = (typeof lanes)[number];

/** One line of the rail: an entry, or several of one kind that are folded. */
export interface Line {
  readonly lane: Lane;
  readonly says: string;
  readonly entries: readonly TimelineEntry[];
}

/** Puts entries that repeat under one line: attempts of one callback, lines of one bill. The order of first entries stays. */
export function linesOf(entries: readonly TimelineEntry[]): readonly Line[] {
  const lines: { readonly lane: Lane; readonly says: string; readonly entries: TimelineEntry[] }[] = [];
  const open = new Map<string, TimelineEntry[]>();
  for (const entry of entries) {
    const line = { lane: laneOf(entry), says: saysOf(entry), entries: [entry] };
    const key = `${line.lane} ${line.says} ${entry.of}`;
    const before = line.lane === 'callbacks' || line.lane === 'bill' ? open.get(key) : undefined;
    if (before) before.push(entry);
    else {
      open.set(key, line.entries);
      lines.push(line);
    }
  }
  return lines;
}

function laneOf({ by, what }: TimelineEntry): Lane {
  if (by === 'apply' || by === 'task') return 'order';
  if (by === 'room') return what.startsWith('POWER ') ? 'power' : 'room';
  if (by === 'billing' || by === 'invoice') return 'bill';
  return by === 'callback' ? 'callbacks' : 'outbox';
}

const whole: Readonly<Record<string, string>> = {
  'apply ACCEPTED': 'Order accepted',
  'apply MINIMUM_REACHED': 'Minimum reached',
  'outbox WAITING': 'Message waits for the broker',
  'room RESERVED': 'Machine reserved',
  'room GRANTED': 'Machine granted',
  'room RELEASING': 'Machine is being released',
  'room RELEASED': 'Machine released',
  'room POWER ON': 'Switched on',
  'room POWER OFF': 'Switched off',
  'room POWER ON_FAILED': 'Could not be switched on',
  'room POWER OFF_FAILED': 'Could not be switched off',
  'billing USAGE': 'Usage billed',
  'billing ADJUSTMENT': 'Bill corrected',
  'invoice NEW': 'Invoice drawn up',
  'invoice SENT': 'Invoice sent',
  'invoice FAILED': 'Invoice refused',
};

function saysOf({ by, what }: TimelineEntry): string {
  const known = whole[`${by} ${what}`];
  if (known) return known;
  if (by === 'task') {
    const [name = '', status = ''] = what.split(' ');
    return `Task ${name}: ${wordOf(status).text.toLowerCase()}`;
  }
  if (by === 'inbox') return `Told to all: ${wordOf(what).text.toLowerCase()}`;
  if (by === 'callback') return `Customer told: ${wordOf(what).text.toLowerCase()}`;
  return wordOf(what).text;
}
