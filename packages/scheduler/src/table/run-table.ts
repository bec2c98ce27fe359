import { type Database, Turns, WorkTable } from '@holdfast/core';

/** The runs as a table of claimable rows. BLOCKED waits for its job's turn; SKIPPED, which is no state of the kernel, never ran. */
export function runTable(database: Database): WorkTable {
  return new WorkTable(database, {
    table: 'scheduler_run',
    attemptTable: 'scheduler_attempt',
    columns: { kind: 'processor', group: 'app', attempts: 'attempts', error: 'last_error', result: 'run_result', progress: 'run_progress' },
    payload: {
      jobId: database.text('job_id'),
      jobVersion: 'job_version',
      fireAt: database.text('fire_at'),
      gate: 'gate',
      params: 'params',
      settings: 'settings',
    },
    states: {
      ready: 'READY',
      scheduled: 'SCHEDULED',
      blocked: 'BLOCKED',
      running: 'RUNNING',
      done: 'SUCCEEDED',
      dead: 'FAILED',
      cancelled: 'CANCELLED',
    },
    generated: database.family === 'mysql',
    readyIndex: 'scheduler_run_ready',
    agingStepMs: 60_000,
  });
}

/** The scope of the gates of a processor's jobs. */
export function gateScope(processor: string): string {
  return `scheduler:${processor}`;
}

/** The turns of the runs of one job: one is not BLOCKED at a time, in the order of their ids. */
export function runTurns(table: WorkTable): Turns {
  return new Turns(table, { scope: gateScope, serial: () => true, column: 'gate', key: (row) => row.payload.gate ?? null });
}
