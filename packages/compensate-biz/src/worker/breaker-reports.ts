import { Breaker, type Settlement } from '@holdfast/core';
import type { Registry } from '../registry.ts';

/** Outcomes that are not reported yet: the number of successes, and of the failures after the last success. */
interface Report {
  ok: number;
  failed: number;
}

/**
 * Reports the outcomes of rows to the breakers of their types, in their order. Outcomes that come while a report of their type is written are the
 * next report, so the rows of one turn of the event loop, or of the time that a busy database takes, are one update.
 */
export class BreakerReports {
  readonly #registry: Registry;
  readonly #pending = new Map<string, Report>();
  readonly #reporting = new Set<string>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** A rejected row counts as a success: the handler worked. A release or a snooze counts as neither. */
  add({ row: { kind }, verdict }: Settlement): void {
    if (!this.#registry.types[kind]?.breaker) return;
    const ok = verdict.outcome === 'done' || (verdict.outcome === 'dead' && verdict.reason === 'rejected');
    if (!ok && verdict.outcome !== 'retry' && verdict.outcome !== 'dead') return;
    const report = this.#pending.get(kind) ?? { ok: 0, failed: 0 };
    this.#pending.set(kind, report);
    report.ok += ok ? 1 : 0;
    report.failed = ok ? 0 : report.failed + 1;
    if (this.#reporting.has(kind)) return;
    this.#reporting.add(kind);
    queueMicrotask(() => void this.#report(kind));
  }

  async #report(kind: string): Promise<void> {
    const { database, types, logger } = this.#registry;
    const breaker = new Breaker(database, types[kind]?.breaker);
    for (let report = this.#pending.get(kind); report; report = this.#pending.get(kind)) {
      this.#pending.delete(kind);
      await breaker
        .report('compensate-biz', kind, report)
        .catch((error) => logger.debug({ err: error }, 'outcomes were not reported to the breaker'));
    }
    this.#reporting.delete(kind);
  }
}
