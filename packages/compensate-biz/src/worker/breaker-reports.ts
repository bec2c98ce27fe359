import { Breaker, type Settlement } from '@holdfast/core';
import type { Registry } from '../registry.ts';

/** Reports outcomes to the breakers of their types: one update per type and turn of the event loop, not one per row. */
export class BreakerReports {
  readonly #registry: Registry;
  readonly #pending = new Map<string, { ok: number; failed: number }>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** A rejected row counts as a success: the handler worked. A release or a snooze counts as neither. */
  add({ row: { kind }, verdict }: Settlement): void {
    const options = this.#registry.types[kind]?.breaker;
    if (!options) return;
    const ok = verdict.outcome === 'done' || (verdict.outcome === 'dead' && verdict.reason === 'rejected');
    if (!ok && verdict.outcome !== 'retry' && verdict.outcome !== 'dead') return;
    const report = this.#pending.get(kind) ?? { ok: 0, failed: 0 };
    report[ok ? 'ok' : 'failed'] += 1;
    if (this.#pending.has(kind)) return;
    this.#pending.set(kind, report);
    queueMicrotask(() => {
      this.#pending.delete(kind);
      new Breaker(this.#registry.database, options)
        .report('compensate-biz', kind, report)
        .catch((error) => this.#registry.logger.debug({ err: error }, 'an outcome was not reported to the breaker'));
    });
  }
}
