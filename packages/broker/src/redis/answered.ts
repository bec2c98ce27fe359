import { boundedCall } from '@holdfast/core';

/** The time limit of a command that does not block. */
const answerMs = 5_000;

/**
 * Bounds the wait for a command. When its connection is lost, ioredis may never settle it, and the loop that awaits it would stop. After
 * the error it is unknown whether Redis ran the command.
 */
export async function answered<T>(command: Promise<T>): Promise<T> {
  return boundedCall(() => command, {
    name: 'Redis',
    ms: answerMs,
    late: () => new Error(`Redis did not answer within ${answerMs} ms.`),
  });
}
