import { type Database, WorkTable, type WorkTableShape } from '@holdfast/core';
import { keyedSql } from './child-key.ts';

/** How many ms of waiting one step of priority counts for. */
export const agingStepMs = 60_000;

const shape: WorkTableShape = {
  table: 'compensate_biz',
  attemptTable: 'compensate_biz_attempt',
  columns: {
    kind: 'biz_type',
    group: 'tenant',
    attempts: 'cnt',
    error: 'last_failed_reason',
    result: 'run_result',
    progress: 'run_progress',
  },
  payload: {
    bizId: 'biz_id',
    context: 'context',
    schemaVersion: 'schema_version',
    subject: 'subject',
    traceparent: 'traceparent',
    parentId: 'parent_id',
    gate: 'gate',
    keyed: `CASE WHEN ${keyedSql} THEN '1' END`,
  },
  states: {
    ready: 'WAIT_HANDLE',
    scheduled: 'SCHEDULED',
    blocked: 'BLOCKED',
    running: 'PROCESSING',
    done: 'SUCCESS',
    dead: 'FAILED',
    cancelled: 'CANCELLED',
  },
  readyIndex: 'compensate_biz_ready',
  agingStepMs,
};

/** The table `compensate_biz` as a table of claimable rows. */
export function bizTable(database: Database): WorkTable {
  return new WorkTable(database, {
    ...shape,
    generated: database.family === 'mysql',
    payload: { ...shape.payload, parentId: database.text('parent_id') },
  });
}
