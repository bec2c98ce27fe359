import {
  activeTraceparent,
  cleanText,
  type Duration,
  describeIssues,
  durationMs,
  InvalidArgumentError,
  jsonText,
  keyText,
} from '@holdfast/core';
import type { BizType, BizTypes } from '../biz-type.ts';
import { InvalidContextError, UnknownTypeError } from '../errors.ts';

/** Options of a submit. */
export interface SubmitOptions {
  /** The business id that people look for. Required for `serial` types. At most 191 characters. */
  readonly bizId?: string | number | bigint;
  /**
   * Makes the submit idempotent per type: a second one with the same key returns the first row's id, for 7 days or the
   * given window; with `while: 'pending'`, for as long as that row has not ended.
   */
  readonly once?: string | { readonly key: string; readonly window?: Duration } | { readonly key: string; readonly while: 'pending' };
  /** A higher number is more urgent. One step is worth a minute of waiting. Default 0. */
  readonly priority?: number;
  /** Not before this much later. */
  readonly delay?: Duration;
  /** Whose it is, for fair shares. Default `''`. */
  readonly tenant?: string;
  /** Business key under which a timeline is drawn across tables. */
  readonly subject?: string;
}

/** A row as it is written. */
export interface NewRow {
  readonly biz_id: string | null;
  readonly biz_type: string;
  readonly context: string;
  readonly priority: number;
  readonly delayMs: number;
  readonly tenant: string;
  readonly schema_version: number;
  readonly subject: string | null;
  readonly traceparent: string | null;
  readonly parent_id: string | null;
  readonly child_key: string | null;
  readonly gate: string | null;
}

/**
 * Checks a context and makes it a row.
 * @throws UnknownTypeError, InvalidContextError, InvalidArgumentError
 */
export async function newRow(
  types: BizTypes,
  maxContextBytes: number,
  type: string,
  context: unknown,
  options: SubmitOptions = {},
): Promise<NewRow> {
  const definition = typeOf(types, type);
  const bizId = options.bizId === undefined ? null : keyText('bizId', String(options.bizId));
  if (definition.serial && bizId === null)
    throw new InvalidArgumentError(`${type} is serial, so a bizId is needed: rows of one bizId run one at a time. Pass { bizId }.`);
  const priority = options.priority ?? 0;
  if (!Number.isInteger(priority) || Math.abs(priority) > 1_000_000)
    throw new InvalidArgumentError(`priority is ${priority}; give a whole number between -1,000,000 and 1,000,000.`);
  return {
    biz_id: bizId,
    biz_type: type,
    context: await contextText(definition, maxContextBytes, type, context),
    priority,
    delayMs: options.delay === undefined ? 0 : durationMs(options.delay, 'delay'),
    tenant: options.tenant === undefined ? '' : keyText('tenant', options.tenant, 100),
    schema_version: definition.version,
    subject: options.subject === undefined ? null : keyText('subject', options.subject),
    traceparent: activeTraceparent(),
    parent_id: null,
    child_key: null,
    gate: definition.serial && bizId !== null ? bizId : null,
  };
}

export function typeOf(types: BizTypes, type: string): BizType<unknown, unknown> {
  const definition = Object.hasOwn(types, type) ? types[type] : undefined;
  if (!definition) throw new UnknownTypeError(type, Object.keys(types));
  return definition;
}

async function contextText(definition: BizType<unknown, unknown>, maxBytes: number, type: string, context: unknown): Promise<string> {
  let result = definition.schema['~standard'].validate(context);
  if (result instanceof Promise) result = await result;
  if (result.issues) throw new InvalidContextError(`The context of ${type} does not fit its schema: ${describeIssues(result.issues)}.`);
  // What was given is stored, not what the schema made of it: the handler parses it again.
  const json = jsonText(context, maxBytes, 'maxContextBytes');
  if ('problem' in json) throw new InvalidContextError(`The context of ${type} ${json.problem}`, json.cause);
  return json.text;
}

/** Checks the id of a row. */
export function rowId(what: string, id: string): string {
  if (typeof id !== 'string' || !/^\d{1,19}$/.test(id))
    throw new InvalidArgumentError(
      `${what} is ${JSON.stringify(cleanText(String(id))).slice(0, 60)}; give the id of a row, a number as text.`,
    );
  return id;
}
