import { createHash } from 'node:crypto';

/** Shortens a name to fit its column of 100 characters. Different names stay different, by a hash. */
export function fitsColumn(text: string): string {
  return text.length <= 90 ? text : `${text.slice(0, 60)} ${createHash('sha256').update(text).digest('hex').slice(0, 20)}`;
}

/** The scope under which the instances of a run are registered as members. */
export function memberScope(scan: string, scope: string): string {
  return fitsColumn(`scan ${scan} ${scope}`);
}
