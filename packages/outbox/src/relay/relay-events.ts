import type { StoredError } from '@holdfast/core';

/** Events of a relay. They are not stored: an event may be lost with the process, and repeated by another relay. */
export interface RelayEvents {
  /** The broker accepted the message, at `at`. Its row is deleted after this event; after a crash in between, it is published again. */
  'message:published': {
    readonly id: string;
    readonly topic: string;
    readonly key: string | undefined;
    readonly at: Readonly<Record<string, string | number>>;
  };
  /** Messages of this topic and key wait until the broker accepts the first of them. After the commit. `attempts` counts its refusals. */
  'message:held': { readonly topic: string; readonly key: string | undefined; readonly attempts: number; readonly error: StoredError };
  /** The message is with the dead letters. After the commit. `reason` is `poison`, or `exhausted` where `hold` ended. */
  'message:dead': {
    readonly id: string;
    readonly topic: string;
    readonly key: string | undefined;
    readonly reason: string;
    readonly error: StoredError;
  };
  /** This relay got a lane. */
  'relay:lane-taken': { readonly lane: number };
  /** This relay gave a lane to another relay, or lost its lease. */
  'relay:lane-lost': { readonly lane: number };
  /** The broker refuses this service (credentials, an unknown cluster): a person must act. Publishing is tried again every `fatalRetry`. */
  'relay:fatal': { readonly error: StoredError };
  /** The broker accepts messages again after `relay:fatal`. */
  'relay:recovered': { readonly afterMs: number };
}
