import { type ClaimedRow, ProgressReports, type Settlement, type StoredError, Telemetry, uuidv7, type Verdict } from '@holdfast/core';
import { TestRunLimitError } from '../errors.ts';
import { cancelChildren } from '../operate/cancel.ts';
import { parsedJson } from '../operate/task.ts';
import type { Registry } from '../registry.ts';
import { HandlerRunner } from '../run/handler-runner.ts';
import { attemptOf } from '../run/identity.ts';
import { keepsRow } from '../run/keeps-row.ts';
import { pausedTypes } from '../table/paused-types.ts';
import { completeOnce } from '../worker/sweep.ts';

/** One run of one row, and how it ended. */
export interface TaskRun {
  readonly id: string;
  readonly type: string;
  readonly bizId: string | undefined;
  /** Starts at 1. */
  readonly attempt: number;
  /**
   * `succeeded`; `retried`: the attempt failed, and the row runs again after `afterMs`; `snoozed`: it runs again and no attempt is counted;
   * `failed`: the row is FAILED; `released`: the run did not count, and the row is as before; `refused`: the row was cancelled, or passed to
   * another, while it ran.
   */
  readonly outcome: 'succeeded' | 'retried' | 'snoozed' | 'failed' | 'released' | 'refused';
  /** What the handler returned. Not kept, and so `undefined`, for a type with `keep: 'none'`. */
  readonly result: unknown;
  /** Why it was `retried` or has `failed`. */
  readonly error: StoredError | undefined;
  /** When a `retried` or `snoozed` row runs again, in ms from its end. */
  readonly afterMs: number | undefined;
}

const leaseMs = 3_600_000;

/** Runs the rows that are due, one run after the other, type by type and most urgent first, until none is left. */
export class DueRunner {
  readonly #registry: Registry;
  readonly #owner: string = uuidv7();
  readonly #runner: HandlerRunner;
  readonly #committed = new Map<string, Settlement>();
  readonly #parents = new Set<string>();

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#runner = new HandlerRunner({
      registry,
      telemetry: new Telemetry('@holdfast/compensate-biz'),
      worker: {
        id: this.#owner,
        onCounted: (parentId) => this.#parents.add(parentId),
        onCommitted: (settlements) => {
          for (const settlement of settlements) this.#committed.set(settlement.row.id, settlement);
        },
      },
      reports: new ProgressReports(registry.table, registry.logger),
      leaseMs,
    });
  }

  /**
   * @param most the runs that the caller allows, of which `before` were made by earlier calls
   * @throws TestRunLimitError after `most` runs
   */
  async run(types: readonly string[] | undefined, most: number, before: number): Promise<readonly TaskRun[]> {
    const { database, table, handlers } = this.#registry;
    const paused = await pausedTypes(database);
    const wanted = (types ?? [...handlers.keys()]).filter((type) => !paused.has(type));
    const runs: TaskRun[] = [];
    for (;;) {
      while ((await table.promote(1_000)) === 1_000);
      while ((await cancelChildren(this.#registry)).chunks > 0);
      const rows = await this.#claimNext(wanted);
      if (rows.length === 0) return runs;
      if (before + runs.length + rows.length > most) {
        await this.#settle(rows.map((row) => ({ row, verdict: { outcome: 'release' }, keep: true })));
        throw new TestRunLimitError(most, rows[0]?.kind ?? '');
      }
      runs.push(...(await this.#runRows(rows)));
      await completeOnce(this.#registry, [...this.#parents]);
      this.#parents.clear();
    }
  }

  async #claimNext(types: readonly string[]): Promise<readonly ClaimedRow[]> {
    const { table, handlers } = this.#registry;
    for (const { kind, group, lost } of await table.ready()) {
      if (!types.includes(kind)) continue;
      const query = { kind, group, owner: this.#owner, leaseMs, limit: handlers.get(kind)?.size ?? 1 };
      const rows = await table.claim(lost.most === 0 ? query : { ...query, limit: 1, lost: { from: lost.least, to: lost.most } });
      if (rows.length > 0) return rows;
    }
    return [];
  }

  async #runRows(rows: readonly ClaimedRow[]): Promise<readonly TaskRun[]> {
    const { types } = this.#registry;
    const verdicts = await this.#runner.run(rows.map((row) => ({ row, signal: new AbortController().signal, interrupted: false })));
    const settlements = rows.flatMap((row): readonly Settlement[] => {
      const verdict = verdicts.get(row.id);
      const type = types[row.kind];
      return verdict === undefined ? [] : [{ row, verdict, keep: type === undefined || keepsRow(type, row) }];
    });
    const settled = await this.#settle(settlements);
    return rows.map((row) => {
      const verdict = verdicts.get(row.id);
      if (verdict !== undefined) return runOf(row, settled.has(row.id) ? verdict : undefined);
      const committed = this.#committed.get(row.id);
      this.#committed.delete(row.id);
      this.#emit(row, committed?.verdict);
      return runOf(row, committed?.verdict);
    });
  }

  async #settle(settlements: readonly Settlement[]): Promise<ReadonlySet<string>> {
    const { table, effects } = this.#registry;
    const settled = await table.settle(
      settlements,
      effects.hook(settlements, this.#owner, (parentId) => this.#parents.add(parentId)),
    );
    for (const { row, verdict } of settlements) this.#emit(row, settled.has(row.id) ? verdict : undefined);
    return settled;
  }

  #emit(row: ClaimedRow, verdict: Verdict | undefined): void {
    const { events } = this.#registry;
    const task = { id: row.id, type: row.kind };
    if (verdict === undefined) events.emit('task:lease-lost', task);
    else if (verdict.outcome === 'done') events.emit('task:succeeded', task);
    else if (verdict.outcome === 'retry') events.emit('task:retried', { ...task, afterMs: verdict.afterMs, error: verdict.error });
    else if (verdict.outcome === 'dead') events.emit('task:dead', { ...task, reason: verdict.reason, error: verdict.error });
  }
}

const outcomes = {
  done: 'succeeded',
  retry: 'retried',
  dead: 'failed',
  snooze: 'snoozed',
  release: 'released',
  cancel: 'refused',
} as const;

function runOf(row: ClaimedRow, verdict: Verdict | undefined): TaskRun {
  return {
    id: row.id,
    type: row.kind,
    bizId: row.payload.bizId ?? undefined,
    attempt: attemptOf(row),
    outcome: verdict === undefined ? 'refused' : outcomes[verdict.outcome],
    result: verdict?.outcome === 'done' ? parsedJson(verdict.result) : undefined,
    error: verdict?.outcome === 'retry' || verdict?.outcome === 'dead' ? verdict.error : undefined,
    afterMs: verdict?.outcome === 'retry' || verdict?.outcome === 'snooze' ? verdict.afterMs : undefined,
  };
}
