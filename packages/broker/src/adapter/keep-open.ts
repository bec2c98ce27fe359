import { type Logger, OutageLog, wait } from '@holdfast/core';
import { SubscribeRefusedError } from '../errors.ts';

export interface KeepOpenOptions {
  /** What is opened, for messages: `RabbitMQ, the subscription of billing to order.paid`. */
  readonly what: string;
  /** Opens it. If it resolves with `ended`, it is opened again when that has settled; else it stays open by itself. */
  readonly open: () => Promise<{ readonly ended: Promise<void> } | undefined>;
  /** Returns whether the broker refuses, so that a person must act. In doubt false. */
  readonly isPermanent: (error: unknown) => boolean;
  /** Ends it all. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** What {@link keepOpen} has begun. */
export interface KeptOpen {
  /** Resolves when it is open for the first time, or when the signal aborts. Rejects if the broker refuses before that. */
  readonly opened: Promise<void>;
  /** Resolves when nothing is tried any more. Never rejects. */
  readonly done: Promise<void>;
}

/**
 * Opens something and keeps it open. A broker that can't be reached is no error: it is tried again, after pauses that grow from 100 ms to 5 s
 * and hold the process open. An {@link OutageLog} tells of each outage. A refusal ends the first opening; after that it is an error in the log,
 * and is tried again, since a person may have acted.
 */
export function keepOpen({ what, open, isPermanent, signal, logger }: KeepOpenOptions): KeptOpen {
  const first = Promise.withResolvers<void>();
  const outage = new OutageLog(logger);
  const run = async (): Promise<void> => {
    let opened = false;
    for (let pauseMs = 100; !signal.aborted; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      try {
        const kept = await open();
        opened = true;
        first.resolve();
        outage.works(`${what}: it is open again`);
        if (!kept) return;
        pauseMs = 100;
        await kept.ended;
      } catch (err) {
        if (signal.aborted) return;
        if (!isPermanent(err)) outage.failed(err, `${what}: it can't be opened, or has ended; trying again`);
        else if (opened) outage.refused(err, `${what}: the broker refuses it, and a person must act; trying again`);
        else return first.reject(new SubscribeRefusedError(what, err));
      }
      await wait(pauseMs, signal).catch(() => undefined);
    }
  };
  const done = run().then(first.resolve);
  return { opened: first.promise, done };
}
