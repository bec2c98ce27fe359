/** The statuses of a row. */
export const taskStatuses = ['WAIT_HANDLE', 'SCHEDULED', 'BLOCKED', 'PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED'] as const;
/** The status of a row. */
export type TaskStatus = (typeof taskStatuses)[number];

/** The statuses in which a row has ended. Only a redrive makes a row run again after one of them. */
export const endedStatuses = ['SUCCESS', 'FAILED', 'CANCELLED'] as const;

/** SQL: true for a row that has ended. As literals, so that it matches the condition of a partial index. */
export const endedSql: string = `status IN (${endedStatuses.map((status) => `'${status}'`).join(', ')})`;

/** Returns whether a row with this status has ended. */
export function hasEnded(status: string): boolean {
  return (endedStatuses as readonly string[]).includes(status);
}
