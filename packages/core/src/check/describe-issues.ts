import { cleanText } from '../errors/clean-text.ts';

/** Describes the issues of a Standard Schema in one line; the first five of them. */
export function describeIssues(issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[]): string {
  return issues
    .slice(0, 5)
    .map(({ message, path }) => {
      const at = (path ?? []).map((step) => String(typeof step === 'object' && step !== null && 'key' in step ? step.key : step)).join('.');
      return at ? `${at}: ${cleanText(message)}` : cleanText(message);
    })
    .join('; ');
}
