import type { StoredError } from '@holdfast/core';

/** Events of a registry. All come after the change was committed, in this process only, and are lost with it. */
export interface BizEvents {
  /** A row succeeded. */
  'task:succeeded': { readonly id: string; readonly type: string };
  /** An attempt failed; the row runs again. */
  'task:retried': { readonly id: string; readonly type: string; readonly afterMs: number; readonly error: StoredError };
  /** A row is FAILED for good, until somebody redrives it. */
  'task:dead': { readonly id: string; readonly type: string; readonly reason: string; readonly error: StoredError };
  /** A run ended after its row had passed to another; its verdict was refused. */
  'task:lease-lost': { readonly id: string; readonly type: string };
  /** A fan-out's children have all ended. */
  'fan-out:completed': { readonly parentId: string };
  /** The sweep found rows of types, or of versions, that no handler here knows. */
  'sweep:unknown': { readonly type: string; readonly count: number };
}
