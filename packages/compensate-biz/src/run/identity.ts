import type { ClaimedRow } from '@holdfast/core';

/** The number of a run, from 1: failed attempts and lost starts count, snoozes do not. */
export function attemptOf({ attempts, lost }: ClaimedRow): number {
  return attempts + lost + 1;
}

/** The key that is the same in every run of a row. */
export function idempotencyKeyOf({ id }: ClaimedRow): string {
  return `compensate-biz:${id}`;
}
