import type { StoredError } from '@holdfast/core';

/** Events of a registry. Each comes after its change was committed, only in the process that made the change; a crash may lose it. */
export interface BizEvents {
  /** A row succeeded. */
  'task:succeeded': { readonly id: string; readonly type: string };
  /** An attempt failed; the row runs again. */
  'task:retried': { readonly id: string; readonly type: string; readonly afterMs: number; readonly error: StoredError };
  /** A row is FAILED: it does not run again unless it is redriven. */
  'task:dead': { readonly id: string; readonly type: string; readonly reason: string; readonly error: StoredError };
  /** A run ended after its row had passed to another; its verdict was refused. */
  'task:lease-lost': { readonly id: string; readonly type: string };
  /** All children of a fan-out have ended, and the parent has completed. */
  'fan-out:completed': { readonly parentId: string };
  /** The sweep found rows of a type, or of a schema version, that this process does not know. Repeated by each sweep while there are any. */
  'sweep:unknown': { readonly type: string; readonly count: number };
}
