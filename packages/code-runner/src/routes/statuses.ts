import type { ProblemStatuses } from '@holdfast/http';

/** The HTTP status and title of each error that the routes answer with. */
export const statuses: ProblemStatuses = {
  'invalid-argument': [422, 'Not acceptable'],
  'invalid-path': [422, 'The path is not acceptable'],
  'invalid-zip': [422, 'The archive is not acceptable'],
  'unknown-language': [422, 'Unknown language'],
  'no-main-file': [422, 'No main file'],
  forbidden: [403, 'Forbidden'],
  'version-conflict': [409, 'Changed meanwhile'],
  'live-run': [409, 'A run has not ended'],
  'run-ended': [409, 'The run has ended'],
  'limit-exceeded': [413, 'Too large'],
  'upload-cut': [400, 'The upload broke off'],
  'executor-unavailable': [503, 'Programs cannot be run at present'],
  'executor-pending': [503, 'Programs cannot be run at present'],
  'file-store': [503, 'Files cannot be stored at present'],
  'database-unavailable': [503, 'The database is away'],
};

/** Further members of problems: `runId` of `live-run` is the run that has not ended. */
export function membersOf(error: unknown): { readonly runId?: string } {
  const runId = (error as { runId?: string } | undefined)?.runId;
  return runId === undefined ? {} : { runId };
}
