import type { AttemptOutcome } from './attempt/outcome.ts';

/** Events of a notifier. All come after the change was committed, in this process only, and are lost with it. */
export interface NotifierEvents {
  /** A receiver acknowledged. */
  'notification:delivered': NotificationEvent;
  /** An attempt failed; another follows. */
  'notification:failed': NotificationEvent & { readonly outcome: AttemptOutcome; readonly nextInMs: number };
  /** There will be no further attempt. `EXHAUSTED` and `GONE` wait for a person, and can be resent. */
  'notification:dead': NotificationEvent & { readonly outcome: AttemptOutcome; readonly state: 'EXHAUSTED' | 'GONE' };
  /** What an attempt came to was refused: another worker has taken the endpoint over, or somebody ended the notification. */
  'notification:lease-lost': NotificationEvent;
  /** An endpoint's breaker opened. */
  'endpoint:opened': { readonly endpointId: string; readonly openMs: number };
}

interface NotificationEvent {
  readonly id: string;
  readonly endpointId: string;
  readonly subjectId: string;
  readonly status: string;
  /** Number of the attempt. */
  readonly attempt: number;
}
