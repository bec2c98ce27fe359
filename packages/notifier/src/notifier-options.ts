import { type Backoff, type DatabaseOptions, type Duration, every, type Logger, steps, type Waker } from '@holdfast/core';
import type { Ack } from './attempt/ack.ts';
import type { StillWanted } from './attempt/prepare.ts';
import type { EgressOptions } from './egress/egress.ts';
import type { KeySource } from './sign/key-ring.ts';
import type { SealingKeys } from './sign/sealed-key.ts';
import type { Signer } from './sign/signer.ts';

/** Options of {@link createNotifier}: the database, the signing keys, the schedule of attempts, and the rules for destinations. */
export interface NotifierOptions extends DatabaseOptions {
  /**
   * Returns the signing keys behind a `keyRef`: the current key first, then the keys that it replaced. Called at each trigger and at each
   * attempt. Needed unless every trigger carries a `signKey`, or `sign` is `[]`. If it throws at an attempt, or does not answer within
   * `callTimeout`, the attempt is postponed by 15 s and does not count; if it returns nothing, the attempt fails. Only the current key must be
   * there: a previous one that can't be read is left out, with a line in the log.
   */
  readonly keys?: KeySource;
  /**
   * Keys that encrypt a trigger's `signKey` in the database: 32 bytes each, by name. The first one encrypts, all of them decrypt, so keep
   * an old key until the notifications that it encrypted have ended. Default: none; a trigger with a `signKey` is refused.
   */
  readonly sealingKeys?: SealingKeys;
  /** The signatures that each request carries; several can be combined. Default `[standardWebhooks()]`; `[]` sends unsigned requests. */
  readonly sign?: readonly Signer[];
  /**
   * Decides whether a response acknowledges the notification. Default `ack.body('success')`: status 2xx and the body `success`. Any other
   * response is a failed attempt.
   */
  readonly ack?: Ack;
  /**
   * The delays between attempts. Default {@link defaultSchedule}: 3, 9, 27 and 81 s, then every 30 minutes, ten attempts in all. After the
   * last attempt the notification is EXHAUSTED; `resend` and `replay` send it again.
   */
  readonly schedule?: Backoff;
  /** The destinations that may be called, and the time limits of a request. Default: HTTPS to public addresses, 10 s per request. */
  readonly egress?: EgressOptions;
  /** Names of the headers that a trigger or an endpoint may set. Default: none; any other header is refused. */
  readonly allowHeaders?: readonly string[];
  /**
   * Called before each attempt. `false` ends the notification as CANCELLED. If it throws, or does not answer within `callTimeout`, the attempt
   * is postponed by 15 s and does not count. Default: every notification is sent.
   */
  readonly stillWanted?: StillWanted;
  /**
   * How long a promise of `keys` or `stillWanted` is waited for. Then the signal that the function got aborts; a trigger rejects with
   * CallTimeoutError, and an attempt is postponed. Default 5 s.
   */
  readonly callTimeout?: Duration;
  /** Age at which DELIVERED and CANCELLED notifications are deleted, together with their attempts. Default 30 days. */
  readonly keep?: Duration;
  /**
   * Age at which EXHAUSTED and GONE notifications are deleted, which is logged as a warning: after that, `resend` and `replay` can't send them
   * any more. `'all'` keeps them. Default 180 days, or `keep` if that is longer.
   */
  readonly keepFailed?: 'all' | Duration;
  /** Time after that deletion for which a repeated event is still recognised as a duplicate. Default 90 days. */
  readonly remember?: Duration;
  /**
   * Wakes workers in other processes after a trigger. Default: LISTEN on Postgres, the file's version on SQLite. Without a waker, workers
   * poll four times a second.
   */
  readonly waker?: Waker;
  /** Receives log lines. Default: warnings and errors go to standard error. */
  readonly logger?: Logger;
}

/** The default schedule: at once; 3, 9, 27 and 81 s after the previous attempt; then every 30 minutes plus up to 3; ten attempts in all. */
export const defaultSchedule: Backoff = steps('3s', '9s', '27s', '81s').then(every('30m').jitter(0.1).upTo(10));
