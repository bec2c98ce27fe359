import type { Database } from '../database/database.ts';
import { uuidv7 } from '../ids/uuidv7.ts';
import type { Logger } from '../observe/logger.ts';
import { wait } from '../time/wait.ts';
import type { WakeListener, Waker } from './waker.ts';

interface Listening {
  on(event: 'notification', listener: (message: { channel: string; payload?: string }) => void): void;
  on(event: 'end' | 'error', listener: () => void): void;
}

const channelName = 'holdfast';
/** A payload holds 8,000 bytes. */
const maxNotes = 32;

/** Which database, and which channel of it. */
export interface ListenWakerOptions {
  readonly logger: Logger;
  /** How often delivery is tested, in ms. Default 30,000. */
  readonly selfTestMs?: number;
  /** How long a test notification may take, in ms. Default 2,000. */
  readonly deliveryMs?: number;
}

/**
 * Postgres LISTEN/NOTIFY across processes, on a connection of its own; what this waker itself sends it does not hear (the
 * in-process waker has told this process). Notifications are sent after the commit, over
 * the loops' pool, and coalesced for 2 ms: inside the business transaction NOTIFY takes a lock that serialises commits.
 *
 * PgBouncer in transaction mode accepts LISTEN and drops it silently, so delivery is tested: a notification to itself
 * that does not arrive makes the waker unreliable (loops then poll more often) until one does.
 */
export function listenWaker(database: Database, options: ListenWakerOptions): Waker {
  const listeners = new Map<string, Set<WakeListener>>();
  /** Notes by channel; `undefined` once there are too many for a payload. */
  const due = new Map<string, string[] | undefined>();
  const self = uuidv7();
  const closing = new AbortController();
  const selfTestMs = options.selfTestMs ?? 30_000;
  const deliveryMs = options.deliveryMs ?? 2_000;
  let reliable = false;
  let tested: (() => void) | undefined;
  let nonce = '';

  const flush = (): void => {
    const payloads = [...due].map(([channel, notes]) => [self, channel, ...(notes ?? [])].join('\n'));
    due.clear();
    if (closing.signal.aborted) return;
    for (const payload of payloads) {
      database
        .rows('SELECT pg_notify(?, ?)', [channelName, payload])
        .catch((error) => options.logger.debug({ err: error }, 'a wake-up was not sent'));
    }
  };

  const connectedOnce = async (): Promise<void> => {
    const raw = await database.rawConnection();
    const lost = new AbortController();
    try {
      const connection = raw.connection as Listening;
      connection.on('end', () => lost.abort(new Error('the connection ended')));
      connection.on('error', () => lost.abort(new Error('the connection failed')));
      connection.on('notification', ({ payload }) => {
        if (payload === nonce) tested?.();
        const [sender, channel = '', ...notes] = (payload ?? '').split('\n');
        if (sender === self) return;
        for (const listener of listeners.get(channel) ?? []) queueMicrotask(() => listener(notes));
      });
      await raw.sql.rows(`LISTEN ${channelName}`);
      const signal = AbortSignal.any([closing.signal, lost.signal]);
      for (;;) {
        nonce = `test:${uuidv7()}`;
        const delivered = new Promise<boolean>((resolve) => {
          tested = () => resolve(true);
          wait(deliveryMs, signal).then(
            () => resolve(false),
            () => resolve(false),
          );
        });
        await database.rows('SELECT pg_notify(?, ?)', [channelName, nonce]);
        const ok = await delivered;
        signal.throwIfAborted();
        if (!ok && reliable !== ok)
          options.logger.warn(
            {},
            'LISTEN does not deliver (a pooler in transaction mode drops it); polling instead. Give the loops a direct connection, or leave it so.',
          );
        else if (!ok) options.logger.debug({}, 'LISTEN does not deliver; polling instead');
        reliable = ok;
        // Whatever was sent while nobody listened.
        for (const set of listeners.values()) for (const listener of set) queueMicrotask(() => listener([]));
        await wait(ok ? selfTestMs : Math.min(selfTestMs, 5_000), signal);
        if (!ok) return;
      }
    } finally {
      reliable = false;
      tested = undefined;
      await raw.close();
    }
  };

  const running = (async () => {
    for (let pauseMs = 200; !closing.signal.aborted; pauseMs = Math.min(pauseMs * 2, 10_000)) {
      const started = performance.now();
      try {
        await connectedOnce();
      } catch (error) {
        if (closing.signal.aborted) return;
        options.logger.debug({ err: error }, 'LISTEN was interrupted; connecting again');
      }
      if (performance.now() - started > 60_000) pauseMs = 200;
      await wait(pauseMs, closing.signal).catch(() => undefined);
    }
  })();

  return {
    get reliable() {
      return reliable;
    },
    wake(channel, note) {
      if (closing.signal.aborted) return;
      if (due.size === 0) setTimeout(flush, 2).unref();
      const notes = due.has(channel) ? due.get(channel) : [];
      // A wake-up without a note asks for a look at everything; so do too many.
      due.set(channel, note === undefined || notes === undefined || notes.length >= maxNotes ? undefined : [...notes, note]);
    },
    listen(channel, listener) {
      const set = listeners.get(channel) ?? new Set();
      listeners.set(channel, set);
      set.add(listener);
      return () => set.delete(listener);
    },
    async close() {
      closing.abort(new Error('closed'));
      await running;
    },
  };
}
