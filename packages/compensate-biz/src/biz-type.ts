import {
  type Backoff,
  type BreakerOptions,
  breakerOptions,
  type Duration,
  durationMs,
  exponential,
  InvalidArgumentError,
  shownValue,
  wholeNumber,
} from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { UnknownTypeError } from './errors.ts';

/** A period such as `'5m'`, or a cron expression of five or six fields, in the time zone of the process: `{ cron: '0 3 * * *' }`. */
export type Often = Duration | { readonly cron: string };

/** Options of a type. */
export interface BizTypeOptions<Result = unknown> {
  /** When a row runs again after a failed attempt. After the last attempt the row is FAILED. Default: after 5 s, tripled up to 10 minutes, 8 attempts in all. */
  readonly retry?: Backoff;
  /** Rows (with `handleBatch`: batches) that run at a time in one worker. Default 6. */
  readonly concurrency?: number;
  /**
   * How long one run may take. After that its signal aborts and the attempt has failed, however the handler ends. A `serial` type, or one with
   * a `globalConcurrency`, waits until the handler has ended, at most for the time of the worker's `lease`, before another row may run in its
   * place. Default 1 minute.
   */
  readonly timeout?: Duration;
  /**
   * What happens to SUCCESS rows: `'all'` keeps them, `'none'` deletes each as it succeeds, after a duration the sweep deletes them. Default 7
   * days. The default leaves rows that other code has ended (no worker of Holdfast ever started them): in an adopted table those are the rows
   * of before. A duration that you give holds for them, too.
   */
  readonly keep?: 'all' | 'none' | Duration;
  /**
   * What happens to FAILED and CANCELLED rows: `'all'` keeps them; a duration after the last change of a row the sweep deletes it, with a warning
   * in the log. Default 180 days: time enough to find the cause and redrive. As with `keep`, the default leaves FAILED rows of other code.
   */
  readonly keepFailed?: 'all' | Duration;
  /**
   * Runs one row per `bizId` at a time, in id order; a retry keeps the rows behind it waiting. If a handler continues for longer than a lease after
   * its signal has aborted, a warning is logged, and the next row runs beside it. Default false.
   */
  readonly serial?: boolean;
  /** Schema version of new rows, from 1. Raise it when the shape of the context changes, and give `upcast` a step. Default 1. */
  readonly version?: number;
  /** Lifts contexts of each older version to the next: `{ 1: (v1) => v2 }`. Needed for every version below `version`. */
  readonly upcast?: Readonly<Record<number, (old: never) => unknown>>;
  /**
   * Rows that run at a time in all workers together, 10,000 at most, since each has a row in the table `holdfast_slot`. Default no limit. It
   * costs each claim two statements more.
   */
  readonly globalConcurrency?: number;
  /** How often this type is swept: a period or a cron expression. Default: the worker's `sweep`. */
  readonly sweep?: Often;
  /**
   * Largest number of rows that start in any period of the length `per`, whenever the period begins: in each worker (`scope: 'worker'`, the
   * default), or in all workers together by the database's clock (`'all'`). A start counts when its row is claimed, also if it fails later.
   * With `'all'` workers claim one after the other, which suits rates up to some hundred claims a second. Default no limit.
   */
  readonly rate?: { readonly limit: number; readonly per: Duration; readonly scope?: 'worker' | 'all' };
  /**
   * After failures in a row, no row of this type starts for a while, in all processes; then one row probes. Default off; `{}` turns it on with the
   * defaults of {@link BreakerOptions}: 10 failures, 30 s, doubled up to 10 minutes.
   */
  readonly breaker?: Partial<BreakerOptions>;
  /** Rows of one tenant that run at a time in one worker. Default no limit. */
  readonly tenantConcurrency?: number;
  /**
   * Consecutive starts that end without a verdict (the process died) after which the row is FAILED as a crash loop. At its last start the
   * row runs alone, so the least value is 2. Default 3.
   */
  readonly maxLost?: number;
  /**
   * The schema of what a handler returns. It types the handler, and the `result` of `get` and `find`. A result that does not fit makes the row
   * FAILED. Default none: any JSON value.
   */
  readonly result?: StandardSchemaV1<unknown, Result>;
}

/** A type with its defaults filled in. */
export interface BizType<Input, Output, Result = unknown> {
  readonly schema: StandardSchemaV1<Input, Output>;
  readonly result: StandardSchemaV1<unknown, Result> | undefined;
  readonly retry: Backoff;
  readonly concurrency: number;
  readonly timeoutMs: number;
  readonly keep: boolean;
  /** Age in ms at which SUCCESS rows are deleted; `undefined`: never. */
  readonly purgeAfterMs: number | undefined;
  /** Age in ms at which FAILED and CANCELLED rows are deleted; `undefined`: never. */
  readonly purgeFailedAfterMs: number | undefined;
  /** Whether `keep` and `keepFailed` were given: then they also hold for rows that other code has ended. */
  readonly keepGiven: { readonly done: boolean; readonly dead: boolean };
  readonly serial: boolean;
  readonly version: number;
  /** Functions that lift contexts of older versions, by the version that they lift from. */
  readonly upcast: Readonly<Record<number, (old: never) => unknown>>;
  readonly globalConcurrency: number | undefined;
  readonly sweep: Often | undefined;
  readonly rate: { readonly limit: number; readonly perMs: number; readonly scope: 'worker' | 'all' } | undefined;
  readonly breaker: BreakerOptions | undefined;
  readonly tenantConcurrency: number;
  readonly maxLost: number;
}

/**
 * Declares a type: the schema of its context (zod, valibot, arktype, or any Standard Schema) and how its rows are run.
 * @throws InvalidArgumentError for options out of range.
 */
export function bizType<Input, Output, Result = unknown>(
  schema: StandardSchemaV1<Input, Output>,
  options: BizTypeOptions<Result> = {},
): BizType<Input, Output, Result> {
  if (typeof schema?.['~standard']?.validate !== 'function')
    throw new InvalidArgumentError('bizType needs a Standard Schema (zod, valibot, arktype) as its first argument.');
  const keep = options.keep ?? '7d';
  const keepFailed = options.keepFailed ?? '180d';
  const version = options.version ?? 1;
  for (let from = 1; from < version; from++) {
    if (typeof options.upcast?.[from] !== 'function')
      throw new InvalidArgumentError(
        `version is ${version} but upcast has no step from version ${from}; add upcast: { ${from}: (old) => … }.`,
      );
  }
  if (options.result !== undefined && typeof options.result['~standard']?.validate !== 'function')
    throw new InvalidArgumentError('result is not a Standard Schema (zod, valibot, arktype).');
  return {
    schema,
    result: options.result,
    retry: options.retry ?? exponential({ first: '5s', factor: 3, cap: '10m' }).upTo(8),
    concurrency: wholeNumber('concurrency', options.concurrency ?? 6),
    timeoutMs: durationMs(options.timeout ?? '1m', 'timeout'),
    keep: keep !== 'none',
    purgeAfterMs: keep === 'all' || keep === 'none' ? undefined : durationMs(keep, 'keep'),
    purgeFailedAfterMs: keepFailed === 'all' ? undefined : durationMs(keepFailed, 'keepFailed'),
    keepGiven: { done: options.keep !== undefined, dead: options.keepFailed !== undefined },
    serial: options.serial ?? false,
    version: wholeNumber('version', version),
    upcast: options.upcast ?? {},
    rate: options.rate && rateOf(options.rate),
    breaker: options.breaker && breakerOptions(options.breaker),
    tenantConcurrency:
      options.tenantConcurrency === undefined ? Number.MAX_SAFE_INTEGER : wholeNumber('tenantConcurrency', options.tenantConcurrency),
    globalConcurrency:
      options.globalConcurrency === undefined ? undefined : wholeNumber('globalConcurrency', options.globalConcurrency, { most: 10_000 }),
    sweep: options.sweep,
    maxLost: wholeNumber('maxLost', options.maxLost ?? 3, { least: 2 }),
  };
}

function rateOf({ limit, per, scope = 'worker' }: NonNullable<BizTypeOptions['rate']>): NonNullable<BizType<unknown, unknown>['rate']> {
  if (scope !== 'worker' && scope !== 'all')
    throw new InvalidArgumentError(
      `rate.scope is ${shownValue(scope)}; give 'worker' for a rate of each worker, or 'all' for one of all workers together.`,
    );
  return { limit: wholeNumber('rate.limit', limit), perMs: durationMs(per, 'rate.per'), scope };
}

/** Types by name. */
// biome-ignore lint/suspicious/noExplicitAny: a record of types with different contexts
export type BizTypes = Readonly<Record<string, BizType<any, any, any>>>;
/** The context that `submit` takes for a type. */
export type ContextInput<Type> = Type extends BizType<infer Input, infer _Output, infer _Result> ? Input : never;
/** The context that a handler gets for a type. */
export type ContextOutput<Type> = Type extends BizType<infer _Input, infer Output, infer _Result> ? Output : never;
/** The result of a type's handler, as it is stored: `unknown` unless the type has a `result` schema. */
export type ResultOf<Type> = Type extends BizType<infer _Input, infer _Output, infer Result> ? Result : never;

/** The definition of a type. @throws UnknownTypeError */
export function typeOf(types: BizTypes, type: string): BizType<unknown, unknown> {
  const definition = typeof type === 'string' && Object.hasOwn(types, type) ? types[type] : undefined;
  if (!definition) throw new UnknownTypeError(type, Object.keys(types));
  return definition;
}
