import { durationMs, InvalidArgumentError } from '@holdfast/core';

/** RocketMQ's default delays of the levels 1 to 18. */
const levels = '1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h'.split(' ');

/**
 * The delay of a RocketMQ delay level in ms, for code that is being ported from RocketMQ.
 * @throws InvalidArgumentError unless the level is a whole number from 1 to 18.
 */
export function delayLevel(level: number): number {
  const text = levels[level - 1];
  if (text === undefined) throw new InvalidArgumentError(`delay level ${level} does not exist; RocketMQ has 1 to ${levels.length}.`);
  return durationMs(text, 'level');
}
