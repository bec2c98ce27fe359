import { InvalidArgumentError } from '../errors/errors.ts';
import { shownValue } from '../errors/shown-value.ts';

/** Milliseconds, or a number with a unit: `'250ms'`, `'3s'`, `'30m'`, `'2h'`, `'7d'`. */
export type Duration = number | string;

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** The longest duration that is accepted: ten years. A longer one is most likely a mistake in units. */
export const maxDurationMs: number = 3650 * unitMs.d;

/**
 * Converts a duration to milliseconds. `what` names the option in the error.
 * @throws InvalidArgumentError for a text that is not a duration, and for a duration below 0 or over ten years
 */
export function durationMs(duration: Duration, what = 'duration'): number {
  const ms = typeof duration === 'number' ? duration : parse(duration);
  if (ms === undefined || !Number.isFinite(ms)) {
    throw new InvalidArgumentError(
      `${what} is ${shownValue(duration)}; give milliseconds or a text such as '250ms', '3s', '30m', '2h', '7d'.`,
    );
  }
  if (ms < 0 || ms > maxDurationMs) {
    throw new InvalidArgumentError(`${what} is ${shownValue(duration)}; it must lie between 0 and ten years.`);
  }
  return Math.round(ms);
}

function parse(text: unknown): number | undefined {
  if (typeof text !== 'string') return undefined;
  const match = /^(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text.trim());
  if (!match) return undefined;
  return Number(match[1]) * unitMs[match[2] as keyof typeof unitMs];
}
