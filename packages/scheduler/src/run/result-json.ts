import { jsonText } from '@holdfast/core';
import { InvalidRunResultError } from '../errors.ts';

const maxResultBytes = 262_144;

/** A result as JSON, or `undefined` for none. @throws InvalidRunResultError for what JSON does not keep, and above 256 KiB: it is never cut */
export function resultJson(runId: string, result: unknown): string | undefined {
  if (result === undefined) return undefined;
  const json = jsonText(result, maxResultBytes, 'the limit of a result');
  if ('problem' in json) throw new InvalidRunResultError(`The result of the run ${runId} ${json.problem}`, json.cause);
  return json.text;
}
