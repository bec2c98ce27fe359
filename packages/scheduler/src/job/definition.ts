import { type Duration, durationMs, InvalidArgumentError, jsonText, keyText, requireKnown, shownValue, wholeNumber } from '@holdfast/core';
import { type MissedPolicy, missedPolicies } from '../plan/due-fires.ts';
import type { Trigger } from '../trigger/trigger.ts';

/** What happens when a job fires while a run of it has not ended. `queue`: the new run waits its turn. `skip`: it is SKIPPED. `allow`: both run. */
export const overlapPolicies = ['queue', 'skip', 'allow'] as const;
/** The name of a policy for fires that are due while a run of the same job has not ended: see {@link JobOptions.overlap}. */
export type OverlapPolicy = (typeof overlapPolicies)[number];

/** How often and how soon a failed run is tried again. */
export interface RetryOptions {
  /** Attempts in all, the first included. Default 1: none is tried again. */
  readonly attempts: number;
  /** The pause after the first attempt. Default 10 s. */
  readonly first?: Duration;
  /** Each pause is this many times the one before. Default 3. */
  readonly factor?: number;
  /** The longest pause. Default 10 minutes. */
  readonly cap?: Duration;
}

/** What a job is, besides its key and its processor. */
export interface JobOptions {
  /** When the job fires: made by `cron`, `every`, `delay`, `daily`, `once` or `api`. */
  readonly trigger: Trigger;
  /** Parameters of every run: plain data. Default `{}`. */
  readonly params?: unknown;
  /** See {@link OverlapPolicy}. Default `'queue'`. */
  readonly overlap?: OverlapPolicy;
  /** What becomes of fires older than `grace` that nobody planned, since no process ran: see `MissedPolicy`. Default `'once'`. */
  readonly missed?: MissedPolicy;
  /** A fire that is older is missed. Default one minute. */
  readonly grace?: Duration;
  /** How long an attempt may take. Then its signal aborts, and the attempt has failed. Default: no limit. */
  readonly timeout?: Duration;
  /** Default: a failed run is not tried again. */
  readonly retry?: RetryOptions;
  /** One step counts as a minute of waiting. Default 0. */
  readonly priority?: number;
}

/** A job as its row stores it. */
export interface JobDefinition {
  readonly processor: string;
  readonly trigger: Trigger;
  readonly params: unknown;
  readonly overlap: OverlapPolicy;
  readonly missed: MissedPolicy;
  readonly graceMs: number;
  readonly priority: number;
  readonly settings: RunSettings;
}

/** The part of a job's definition that a run takes with it. */
export interface RunSettings {
  readonly timeoutMs?: number;
  readonly retry?: { readonly attempts: number; readonly firstMs: number; readonly factor: number; readonly capMs: number };
}

const names = ['trigger', 'params', 'overlap', 'missed', 'grace', 'timeout', 'retry', 'priority'];
const maxParamsBytes = 262_144;
const kinds = ['cron', 'every', 'delay', 'daily', 'once', 'api'];

/** Checks a job and makes it what its row stores. @throws InvalidArgumentError with the option that is wrong */
export function jobDefinition(processor: string, options: JobOptions): JobDefinition {
  keyText('processor', processor);
  requireKnown('job', options, names);
  const { trigger, params = {}, overlap = 'queue', missed = 'once' } = options;
  if (typeof trigger !== 'object' || trigger === null || !kinds.includes(trigger.kind))
    throw new InvalidArgumentError(`trigger is ${shownValue(trigger)}; make it with cron(), every(), delay(), daily(), once() or api().`);
  oneOf('overlap', overlap, overlapPolicies);
  oneOf('missed', missed, missedPolicies);
  return {
    processor,
    trigger,
    params: plain(params),
    overlap,
    missed,
    graceMs: durationMs(options.grace ?? '1m', 'grace'),
    priority: wholeNumber('priority', options.priority ?? 0, { least: -1_000_000, most: 1_000_000 }),
    settings: {
      ...(options.timeout === undefined ? {} : { timeoutMs: durationMs(options.timeout, 'timeout') }),
      ...(options.retry === undefined ? {} : { retry: retry(options.retry) }),
    },
  };
}

/** The parameters as they are read back. @throws InvalidArgumentError for what JSON does not keep */
export function plain(params: unknown): unknown {
  const json = jsonText(params, maxParamsBytes, 'the limit of parameters');
  if ('problem' in json) throw new InvalidArgumentError(`params ${json.problem}`, json.cause);
  return JSON.parse(json.text);
}

function retry({ attempts, first = '10s', factor = 3, cap = '10m' }: RetryOptions): NonNullable<RunSettings['retry']> {
  if (!(typeof factor === 'number' && factor >= 1 && factor <= 100))
    throw new InvalidArgumentError(`retry.factor is ${shownValue(factor)}; give a number from 1 to 100.`);
  return {
    attempts: wholeNumber('retry.attempts', attempts, { most: 1_000 }),
    firstMs: durationMs(first, 'retry.first'),
    factor,
    capMs: durationMs(cap, 'retry.cap'),
  };
}

function oneOf(name: string, value: string, values: readonly string[]): void {
  if (!values.includes(value))
    throw new InvalidArgumentError(`${name} is ${shownValue(value)}; use one of ${values.map((one) => `'${one}'`).join(', ')}.`);
}
