import { type ClaimedRow, describeIssues, storedError, type Verdict } from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { BizType } from '../biz-type.ts';
import { InvalidContextError } from '../errors.ts';
import type { Registry } from '../registry.ts';

/** A row's context, or the verdict on a row whose context cannot be handled. */
export type Parsed = { readonly context: unknown } | { readonly verdict: Verdict };

/** Lifts a row's context to the type's version and validates it. Costs a promise only where the schema's validation does. */
export function parseContext(registry: Registry, row: ClaimedRow, type: BizType<unknown, unknown>): Parsed | Promise<Parsed> {
  const version = Number(row.payload.schemaVersion ?? 1);
  if (version > type.version) {
    // Written by a newer version during a rolling deploy: left for workers that know it.
    registry.sawNewer(row.kind, row.id);
    const message = `The row is of version ${version}; this worker knows up to ${type.version}.`;
    return { verdict: { outcome: 'snooze', afterMs: 30_000, reason: { name: 'NewerVersion', code: 'newer-version', message } } };
  }
  const rejected = (error: unknown): Parsed => ({ verdict: { outcome: 'dead', reason: 'rejected', error: storedError(error) } });
  const judge = (result: StandardSchemaV1.Result<unknown>): Parsed =>
    result.issues
      ? rejected(new InvalidContextError(`The context does not fit the schema of ${row.kind}: ${describeIssues(result.issues)}.`))
      : { context: result.value };
  try {
    let value: unknown = JSON.parse(row.payload.context ?? 'null');
    for (let from = version; from < type.version; from++) value = type.upcast[from]?.(value as never);
    const result = type.schema['~standard'].validate(value);
    return result instanceof Promise ? result.then(judge).catch(rejected) : judge(result);
  } catch (error) {
    return rejected(error);
  }
}
