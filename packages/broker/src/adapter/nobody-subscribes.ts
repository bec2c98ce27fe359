import { InvalidArgumentError } from '@holdfast/core';

/** The error of a redrive that would reach nobody: nothing is redriven. */
export function nobodySubscribes(topic: string, group: string): InvalidArgumentError {
  return new InvalidArgumentError(`Nothing subscribes to ${topic} as ${group}; correct the name, or subscribe before the redrive.`);
}
