import type { Database } from '../database/database.ts';
import { uuidv7 } from '../ids/uuidv7.ts';
import { guardLogger } from '../observe/guard-logger.ts';
import type { Logger } from '../observe/logger.ts';
import { OutageLog } from '../observe/outage-log.ts';
import { idle } from '../time/wait.ts';
import { ChannelListeners } from './channel-listeners.ts';
import { WakeMessages } from './wake-messages.ts';
import type { Waker } from './waker.ts';

interface Listening {
  on(event: 'notification', listener: (message: { channel: string; payload?: string }) => void): void;
  on(event: 'end' | 'error', listener: () => void): void;
}

const channelName = 'holdfast';
/** Notes per notification at most: a payload may have 8,000 bytes. */
const maxNotes = 32;

/** Options of {@link listenWaker}. */
export interface ListenWakerOptions {
  readonly logger: Logger;
  /** Time between two tests of the delivery, in ms. Default 30,000. */
  readonly selfTestMs?: number;
  /** How long a test notification may take before delivery counts as broken, in ms. Default 2,000. */
  readonly deliveryMs?: number;
}

/**
 * Wakes other processes by Postgres LISTEN/NOTIFY. It listens on a connection of its own while it has a listener; a process that only wakes
 * others opens none. It ignores its own notifications, since the local waker has called the listeners of this process. Notifications are collected for 2 ms and sent after the commit, on the loops' pool: inside the business
 * transaction NOTIFY takes a lock that serialises commits.
 *
 * PgBouncer in transaction mode accepts LISTEN and drops it silently. So the waker tests delivery with notifications to itself. While these
 * do not arrive, `reliable` is false, and loops poll more often.
 */
export function listenWaker(database: Database, options: ListenWakerOptions): Waker {
  const logger = guardLogger(options.logger);
  const outage = new OutageLog(logger);
  const listeners = new ChannelListeners();
  const closing = new AbortController();
  const selfTestMs = options.selfTestMs ?? 30_000;
  const deliveryMs = options.deliveryMs ?? 2_000;
  let reliable = false;
  let tested: (() => void) | undefined;
  let nonce = '';

  const messages = new WakeMessages(maxNotes, () => {
    const payloads = messages.take();
    if (closing.signal.aborted) return;
    for (const payload of payloads) {
      database
        .rows('SELECT pg_notify(?, ?)', [channelName, payload])
        .catch((error) => logger.debug({ err: error }, 'a wake-up was not sent'));
    }
  });

  const connectedOnce = async (ended: AbortSignal): Promise<void> => {
    const raw = await database.rawConnection();
    const lost = new AbortController();
    try {
      const connection = raw.connection as Listening;
      connection.on('end', () => lost.abort(new Error('the connection ended')));
      connection.on('error', () => lost.abort(new Error('the connection failed')));
      connection.on('notification', ({ payload }) => {
        if (payload === nonce) tested?.();
        const message = messages.read(payload ?? '');
        if (message) listeners.call(message.channel, message.notes);
      });
      await raw.sql.rows(`LISTEN ${channelName}`);
      const signal = AbortSignal.any([ended, lost.signal]);
      for (;;) {
        nonce = `test:${uuidv7()}`;
        const delivered = new Promise<boolean>((resolve) => {
          tested = () => resolve(true);
          idle(deliveryMs, signal).then(
            () => resolve(false),
            () => resolve(false),
          );
        });
        await database.rows('SELECT pg_notify(?, ?)', [channelName, nonce]);
        const ok = await delivered;
        signal.throwIfAborted();
        if (!ok && reliable !== ok)
          logger.warn(
            {},
            'LISTEN does not deliver (a pooler in transaction mode drops it); polling instead. Give the loops a direct connection, or accept that other processes are woken later.',
          );
        else if (!ok) logger.debug({}, 'LISTEN does not deliver; polling instead');
        reliable = ok;
        outage.works('LISTEN is connected again');
        // Wake-ups may have been sent while this connection did not listen.
        listeners.callAll();
        await idle(ok ? selfTestMs : Math.min(selfTestMs, 5_000), signal);
        if (!ok) return;
      }
    } finally {
      reliable = false;
      tested = undefined;
      await raw.close();
    }
  };

  const keepConnected = async (ended: AbortSignal): Promise<void> => {
    for (let pauseMs = 200; !ended.aborted; pauseMs = Math.min(pauseMs * 2, 10_000)) {
      const started = performance.now();
      try {
        await connectedOnce(ended);
      } catch (error) {
        if (ended.aborted) return;
        outage.failed(error, 'LISTEN was interrupted; reconnecting. Work is found by polling');
      }
      if (performance.now() - started > 60_000) pauseMs = 200;
      await idle(pauseMs, ended).catch(() => undefined);
    }
  };
  let count = 0;
  let unneeded = new AbortController();
  let running: Promise<void> = Promise.resolve();

  return {
    get reliable() {
      return reliable;
    },
    wake(channel, note) {
      if (!closing.signal.aborted) messages.add(channel, note);
    },
    listen(channel, listener) {
      const remove = listeners.listen(channel, listener);
      count += 1;
      if (count === 1) {
        unneeded = new AbortController();
        const ended = AbortSignal.any([closing.signal, unneeded.signal]);
        running = running.then(() => keepConnected(ended));
      }
      return () => {
        if (!remove()) return;
        count -= 1;
        if (count === 0) unneeded.abort(new Error('no listener is left'));
      };
    },
    async close() {
      closing.abort(new Error('closed'));
      await running;
    },
  };
}
