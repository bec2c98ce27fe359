import { type Database, WorkTable, type WorkTableShape } from '@holdfast/core';

const shape: WorkTableShape = {
  table: 'compensate_biz',
  attemptTable: 'compensate_biz_attempt',
  columns: { kind: 'biz_type', group: 'tenant', attempts: 'cnt', error: 'last_failed_reason' },
  payload: {
    bizId: 'biz_id',
    context: 'context',
    schemaVersion: 'schema_version',
    subject: 'subject',
    traceparent: 'traceparent',
    parentId: 'parent_id',
    gate: 'gate',
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
  agingStepMs: 60_000,
};

/** The table `compensate_biz` as a table of claimable rows. */
export function bizTable(database: Database): WorkTable {
  const id =
    database.family === 'postgres'
      ? 'parent_id::text'
      : database.family === 'sqlite'
        ? 'CAST(parent_id AS TEXT)'
        : 'CAST(parent_id AS CHAR)';
  return new WorkTable(database, { ...shape, payload: { ...shape.payload, parentId: id } });
}
