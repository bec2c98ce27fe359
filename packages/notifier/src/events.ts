import type { AttemptOutcome } from './attempt/outcome.ts';

/**
 * Events of a notifier. Each is emitted after its change was committed, once, in the process that made the change. It is lost if that
 * process dies.
 */
export interface NotifierEvents {
  /** A receiver acknowledged a notification. */
  'notification:delivered': NotificationEvent;
  /** An attempt failed, and another one follows after `nextInMs`. */
  'notification:failed': NotificationEvent & { readonly outcome: AttemptOutcome; readonly nextInMs: number };
  /**
   * A notification ended without an acknowledgement: its attempts are used up (`EXHAUSTED`), or the receiver answered 410 (`GONE`).
   * `resend` and `replay` send it again.
   */
  'notification:dead': NotificationEvent & { readonly outcome: AttemptOutcome; readonly state: 'EXHAUSTED' | 'GONE' };
  /**
   * The result of an attempt was refused: another worker has taken over the endpoint, or the notification was cancelled or resent
   * meanwhile.
   */
  'notification:lease-lost': NotificationEvent;
  /** The breaker of an endpoint opened: nothing is sent to it for `openMs`. Then a single request probes it. */
  'endpoint:opened': { readonly endpointId: string; readonly openMs: number };
  /**
   * An endpoint was disabled, since it has acknowledged nothing for `failingMs`, longer than the worker's `disableAfter`. It is PAUSED until
   * `endpoints.resume`.
   */
  'endpoint:disabled': { readonly endpointId: string; readonly failingMs: number };
}

interface NotificationEvent {
  readonly id: string;
  readonly endpointId: string;
  readonly subjectId: string;
  readonly status: string;
  /** Number of the attempt, starting at 1. */
  readonly attempt: number;
}
