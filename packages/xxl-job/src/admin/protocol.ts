import { InvalidArgumentError } from '@holdfast/core';
import { digits, idOf } from './exact-json.ts';

/**
 * The versions of the protocol between an admin and its executors, by version of xxl-job. Every request is a POST with JSON. Every answer
 * has the HTTP status 200; its `code` says the outcome.
 *
 * - `2.2`: callbacks as `[{ logId, logDateTim, executeResult: { code, msg } }]`
 * - `2.3` (to 3.4): `[{ logId, logDateTim, handleCode, handleMsg }]`; the misspelling is the protocol's
 * - `3.5`: `{ callbackList: [{ logId, logDateTime, handleCode, handleMsg }] }`, and triggers come to `/trigger`
 *
 * The source is xxl-job's own: `com.xxl.job.core.biz.model` up to 3.4, `com.xxl.job.core.openapi` from 3.5.
 */
export const protocolVersions = ['2.2', '2.3', '3.5'] as const;
/** A version of xxl-job's protocol. */
export type ProtocolVersion = (typeof protocolVersions)[number];

export const codes = { ok: 200, failed: 500, timedOut: 502 } as const;

/** An admin's request to run a job. Its ids are numbers of 64 bits, kept as text. */
export interface TriggerRequest {
  readonly jobId: string;
  readonly executorHandler: string;
  readonly executorParams: string;
  readonly executorBlockStrategy: string;
  /** The job's time-out in seconds; 0 for none. */
  readonly executorTimeout: number;
  readonly logId: string;
  readonly logDateTime: number;
  readonly glueType: string;
  readonly broadcastIndex: number;
  readonly broadcastTotal: number;
}

/** An executor's answer. The result has two names: `content` up to 3.4, `data` from 3.5. */
export interface Reply {
  readonly code: number;
  readonly msg: string | null;
  readonly content: unknown;
  readonly data: unknown;
}

export function reply(code: number, msg: string | null = null, data: unknown = null): Reply {
  return { code, msg, content: data, data };
}

/** The end of a run of a job, as it is reported to an admin. */
export interface JobEnd {
  readonly logId: string;
  readonly logDateTime: number;
  readonly code: number;
  readonly msg: string;
}

/** The body of `{admin}/api/callback`. */
export function callbackBody(version: ProtocolVersion, ends: readonly JobEnd[]): unknown {
  const list = ends.map(({ logId, logDateTime, code, msg }) => ({
    logId: digits(logId),
    ...(version === '3.5' ? { logDateTime } : { logDateTim: logDateTime }),
    ...(version === '2.2' ? { executeResult: { code, msg } } : { handleCode: code, handleMsg: msg }),
  }));
  return version === '3.5' ? { callbackList: list } : list;
}

/** Reads a trigger of any version. @throws InvalidArgumentError that says what is wrong */
export function readTrigger(body: unknown): TriggerRequest {
  if (typeof body !== 'object' || body === null) throw new InvalidArgumentError('The body is not a JSON object.');
  const fields = body as Record<string, unknown>;
  const number = (name: string): number => Number(fields[name] ?? 0);
  const text = (name: string): string => (fields[name] === null || fields[name] === undefined ? '' : String(fields[name]));
  const [broadcastIndex, broadcastTotal] = [number('broadcastIndex'), number('broadcastTotal') || 1];
  // A wrong share would leave rows out, or do them twice.
  if (!Number.isInteger(broadcastIndex) || !Number.isInteger(broadcastTotal) || broadcastIndex < 0 || broadcastIndex >= broadcastTotal)
    throw new InvalidArgumentError(
      `broadcastIndex is ${JSON.stringify(fields.broadcastIndex)} of broadcastTotal ${JSON.stringify(fields.broadcastTotal)}; the index counts from 0 and is less than the total.`,
    );
  return {
    jobId: idOf(body, 'jobId'),
    executorHandler: text('executorHandler'),
    executorParams: text('executorParams'),
    executorBlockStrategy: text('executorBlockStrategy') || 'SERIAL_EXECUTION',
    executorTimeout: Math.max(0, number('executorTimeout')),
    logId: idOf(body, 'logId'),
    logDateTime: number('logDateTime') || number('logDateTim'),
    glueType: text('glueType') || 'BEAN',
    broadcastIndex,
    broadcastTotal,
  };
}
