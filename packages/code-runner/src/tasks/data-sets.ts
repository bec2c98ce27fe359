import { InvalidArgumentError, keyText } from '@holdfast/core';
import { type Authorized, allow } from '../access.ts';
import { InvalidPathError } from '../errors.ts';
import { filePath } from '../files/path.ts';
import { checkTogether } from '../files/tree.ts';

/** A data set, which programs of a task see read-only under `/data`. */
export interface DataSet {
  /** Its path below `/data`. */
  readonly path: string;
  /** Name of the object in the file store. It starts with {@link dataSetPrefix} of the task's owner. */
  readonly object: string;
}

/** Folder of all data sets in the file store. Files, logs and results of tasks are in others, which no program gets as a data set. */
const folder = 'data/';

/**
 * The prefix of the names of the objects that an owner's tasks may have as data sets: `data/alice/`. Characters other than letters, digits and
 * `-_.!~*'()` are escaped as in URLs, so that no owner's prefix is the beginning of another's.
 */
export function dataSetPrefix(owner: string): string {
  return `${folder}${encodeURIComponent(owner)}/`;
}

/**
 * Checks the data sets of a task: paths, names, and the right of `actor` to attach each object.
 * @throws InvalidPathError, InvalidArgumentError, ForbiddenError
 */
export async function checkDataSets(
  authorize: Authorized,
  actor: string,
  task: { readonly id: string; readonly owner: string },
  dataSets: readonly DataSet[],
): Promise<readonly DataSet[]> {
  if (!Array.isArray(dataSets)) throw new InvalidArgumentError('dataSets is not a list; give [{ path, object }].');
  const checked = dataSets.map(({ path, object }) => ({ path: filePath(path), object: objectOf(task.owner, object) }));
  checkTogether(checked.map(({ path }) => path));
  for (const { object } of checked) await allow(authorize, actor, 'attach', { taskId: task.id, owner: task.owner, object });
  return checked;
}

/** Returns the name of an owner's object. @throws InvalidArgumentError */
function objectOf(owner: string, given: string): string {
  const object = keyText('object', given, 300);
  const prefix = dataSetPrefix(owner);
  const refused = (why: string): InvalidArgumentError =>
    new InvalidArgumentError(`The data set ${JSON.stringify(object.slice(0, 80))} can't be attached: ${why}.`);
  if (!object.startsWith(prefix)) throw refused(`the data sets of ${owner} have names that start with ${prefix}`);
  try {
    // Stores that keep folders would follow `..`; a name that is normalised would be another name.
    if (filePath(object) !== object) throw refused('its name is not in the normal form NFC');
  } catch (error) {
    throw InvalidPathError.is(error, 'invalid-path') ? refused(error.message) : error;
  }
  return object;
}

/**
 * Checks the name of a data set when its run starts: it may have been frozen by a version that did not check it.
 * @throws InvalidArgumentError
 */
export function checkFrozen(object: string): void {
  if (object.startsWith(folder) && !object.split('/').includes('..')) return;
  throw new InvalidArgumentError(
    `The data set ${JSON.stringify(object.slice(0, 80))} is not one: names of data sets start with ${folder}. Attach it again under such a name.`,
  );
}
