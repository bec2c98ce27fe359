/** A state in plain words, and the state of the room's legend whose swatch it wears. */
export interface Word {
  readonly text: string;
  readonly swatch: 'RUNNING' | 'STARTING' | 'GRANTED' | 'HELD' | 'RELEASING' | 'FREE' | 'DOWN' | 'WAITING';
}

const words: Readonly<Record<string, Word>> = {
  ACCEPTED: { text: 'Accepted', swatch: 'WAITING' },
  FILLING: { text: 'Filling', swatch: 'STARTING' },
  FULFILLED: { text: 'Filled', swatch: 'RUNNING' },
  PARTIAL: { text: 'Partly filled', swatch: 'GRANTED' },
  FAILED: { text: 'Not filled', swatch: 'DOWN' },
  CANCELLED: { text: 'Cancelled', swatch: 'FREE' },
  ENDED: { text: 'Ended', swatch: 'FREE' },
  WANTED: { text: 'Waiting', swatch: 'WAITING' },
  HELD: { text: 'Reserved', swatch: 'HELD' },
  GRANTED: { text: 'Granted', swatch: 'GRANTED' },
  STARTING: { text: 'Starting', swatch: 'STARTING' },
  RUNNING: { text: 'Running', swatch: 'RUNNING' },
  RETRY_WAIT: { text: 'Waiting again', swatch: 'WAITING' },
  EXPIRED: { text: 'Given up', swatch: 'DOWN' },
  RELEASING: { text: 'Being released', swatch: 'RELEASING' },
  RELEASED: { text: 'Released', swatch: 'FREE' },
  FREE: { text: 'Free', swatch: 'FREE' },
  DOWN: { text: 'Out of service', swatch: 'DOWN' },
  PENDING: { text: 'Waiting', swatch: 'WAITING' },
  DELIVERED: { text: 'Delivered', swatch: 'RUNNING' },
  EXHAUSTED: { text: 'Given up', swatch: 'DOWN' },
  GONE: { text: 'Address gone', swatch: 'DOWN' },
  WAIT_HANDLE: { text: 'Waiting', swatch: 'WAITING' },
  HANDLING: { text: 'Running', swatch: 'STARTING' },
  SUCCESS: { text: 'Done', swatch: 'RUNNING' },
};

/** The words for a state. A state without its own is written in lower case. */
export function wordOf(state: string): Word {
  const plain = state.toLowerCase().replaceAll('_', ' ');
  return words[state] ?? { text: plain.charAt(0).toUpperCase() + plain.slice(1), swatch: 'WAITING' };
}

/** A time with its date, in the visitor's zone: `30 Nov, 22:40:05`. */
export const dateTime = (time: string): string =>
  new Date(time).toLocaleString(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' });

export const clock = (time: string): string => new Date(time).toLocaleTimeString();

/** The end of an id, enough to tell ids of one page apart. */
export const shortId = (id: string): string => (id.length <= 8 ? id : `…${id.slice(-6)}`);

export const count = (n: number): string => n.toLocaleString('en');
