import { InvalidArgumentError } from '@holdfast/core';

/**
 * Asked before each batch: ms to wait and ask again, 0 to go on. While it waits its unit stays its instance's. One that throws an outage
 * is asked again, for as long as the scan's `outage`; any other error fails the unit.
 */
export type Throttle = () => number | Promise<number>;

/** @throws InvalidArgumentError */
export function throttles(given: Throttle | readonly Throttle[] | undefined): readonly Throttle[] {
  const list: readonly Throttle[] = given === undefined ? [] : typeof given === 'function' ? [given] : given;
  if (!Array.isArray(list) || list.some((one) => typeof one !== 'function'))
    throw new InvalidArgumentError('throttle is no function; give one that says how many ms to wait, or an array of such.');
  return list;
}
