import { InvalidArgumentError, shownValue } from '@holdfast/core';

/** The states of notifications that have ended: those that can be sent again. */
const endedStates = ['EXHAUSTED', 'GONE', 'CANCELLED', 'DELIVERED'] as const;
export type EndedState = (typeof endedStates)[number];

/** Checks the states of a filter, and returns each once. Default: those that ended without an acknowledgement. @throws InvalidArgumentError */
export function checkedStates(states: readonly EndedState[] | undefined): readonly EndedState[] {
  if (states === undefined) return ['EXHAUSTED', 'GONE'];
  if (!Array.isArray(states)) throw new InvalidArgumentError(`states is ${shownValue(states)}; give a list of ${endedStates.join(', ')}.`);
  for (const state of states)
    if (!endedStates.includes(state))
      throw new InvalidArgumentError(`states contains ${shownValue(state)}; give ${endedStates.join(', ')}.`);
  return [...new Set(states as readonly EndedState[])];
}
