import type { StoredError } from '@holdfast/core';

/** Events of a relay. None of them is stored: each may be lost with the process, and repeated by another. */
export interface RelayEvents {
  /** The broker has it. Its row is deleted right after: if the process dies before that, the message is published again. */
  'message:published': {
    readonly id: string;
    readonly topic: string;
    readonly key: string | undefined;
    readonly at: Readonly<Record<string, string | number>>;
  };
  /** Messages of this topic and key wait until the broker takes the first of them. After the commit. */
  'message:held': { readonly topic: string; readonly key: string | undefined; readonly attempts: number; readonly error: StoredError };
  /** It can not be published, and stands with the dead letters. After the commit. */
  'message:dead': {
    readonly id: string;
    readonly topic: string;
    readonly key: string | undefined;
    readonly reason: string;
    readonly error: StoredError;
  };
  'relay:lane-taken': { readonly lane: number };
  'relay:lane-lost': { readonly lane: number };
  /** Nothing can be published until a person acts (credentials, an unknown cluster). It is tried again every `fatalRetry`. */
  'relay:fatal': { readonly error: StoredError };
  /** After `relay:fatal`: the broker takes messages again. */
  'relay:recovered': { readonly afterMs: number };
}
