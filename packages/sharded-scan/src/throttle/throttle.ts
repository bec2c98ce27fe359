import { InvalidArgumentError } from '@holdfast/core';

/**
 * Called before each batch. Returns the ms to wait before it is called again, or 0 to continue. The instance keeps its lease on the unit
 * during the wait. If the throttle throws an outage, it is called again, for at most the scan's `outage`; any other error fails the unit.
 * A run that is aborted does not wait for the answer.
 */
export type Throttle = () => number | Promise<number>;

/** The throttles of a scan as a list. @throws InvalidArgumentError */
export function throttleList(given: Throttle | readonly Throttle[] | undefined): readonly Throttle[] {
  const list: readonly Throttle[] = given === undefined ? [] : typeof given === 'function' ? [given] : given;
  if (!Array.isArray(list) || list.some((one) => typeof one !== 'function'))
    throw new InvalidArgumentError(
      'throttle is not a function; give a function that returns the ms to wait, or an array of such functions.',
    );
  return list;
}
