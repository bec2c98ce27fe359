import {
  activeTraceparent,
  describeIssues,
  durationMs,
  InvalidArgumentError,
  jsonText,
  keyAsText,
  keyText,
  lostInJson,
  requireKnown,
  wholeNumber,
} from '@holdfast/core';
import { type BizType, typeOf } from '../biz-type.ts';
import { InvalidContextError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import type { SubmitOptions } from '../submit-options.ts';
import { type OnceKey, onceKey } from './once-key.ts';

const optionNames = ['bizId', 'once', 'priority', 'delay', 'tenant', 'subject'];

/** A row to be written, by the names of its columns. */
export interface NewRow {
  readonly biz_id: string | null;
  readonly biz_type: string;
  readonly context: string;
  readonly priority: number;
  /** Time until the row runs, in ms; 0: at once. */
  readonly delayMs: number;
  readonly tenant: string;
  readonly schema_version: number;
  readonly subject: string | null;
  readonly traceparent: string | null;
  readonly parent_id: string | null;
  readonly child_key: string | null;
  /** The `bizId` of a row of a serial type. */
  readonly gate: string | null;
  readonly once: OnceKey | null;
}

/**
 * Checks a context and its options and makes them a row.
 * @throws UnknownTypeError, InvalidContextError, InvalidArgumentError
 */
export async function newRow(
  { types, maxContextBytes }: Pick<Registry, 'types' | 'maxContextBytes'>,
  type: string,
  context: unknown,
  options: SubmitOptions = {},
): Promise<NewRow> {
  const definition = typeOf(types, type);
  requireKnown('submit', options, optionNames);
  const bizId = options.bizId === undefined ? null : keyAsText('bizId', options.bizId);
  if (definition.serial && bizId === null)
    throw new InvalidArgumentError(`${type} is serial, so a bizId is needed: rows of one bizId run one at a time. Pass { bizId }.`);
  const priority = wholeNumber('priority', options.priority ?? 0, { least: -1_000_000, most: 1_000_000 });
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
    once: onceKey(options.once),
  };
}

async function contextText(definition: BizType<unknown, unknown>, maxBytes: number, type: string, context: unknown): Promise<string> {
  const schema = definition.schema['~standard'];
  // Without an await where the schema needs none: it would cost a tenth of a submit.
  let result = schema.validate(context);
  if (result instanceof Promise) result = await result;
  requireFit(type, result.issues);
  // The context is stored as given, not as the schema transformed it: the worker validates it again before the handler runs.
  const json = jsonText(context, maxBytes, 'maxContextBytes');
  if ('problem' in json) throw new InvalidContextError(`The context of ${type} ${json.problem}`, json.cause);
  if (lostInJson(context, 'context', 'read') !== undefined)
    requireFit(type, (await schema.validate(JSON.parse(json.text))).issues, ', which is stored as JSON (a Date as text, a Map as {}),');
  return json.text;
}

/** @throws InvalidContextError if a schema found issues */
function requireFit(type: string, issues: Parameters<typeof describeIssues>[0] | undefined, as: string = ''): void {
  if (issues) throw new InvalidContextError(`The context of ${type}${as} does not fit its schema: ${describeIssues(issues)}.`);
}
