/**
 * ```
 * SCHEDULED --promote (run_at <= db now)--> READY --claim--> RUNNING (version + 1, starts + 1, lost + 1, lease)
 *     ^                                       ^                 |-- done      -> DONE
 *     |                                 (gate opens)            |-- rejected  -> DEAD
 *     |                                    BLOCKED              |-- exhausted -> DEAD
 *     |                                                         |-- crash-loop-> DEAD (by rescue)
 *     '------------- retry / snooze / rescue -------------------'   cancel    -> CANCELLED
 * ```
 */
export const workStates = ['scheduled', 'ready', 'blocked', 'running', 'done', 'dead', 'cancelled'] as const;
/** The state of a claimable row. */
export type WorkState = (typeof workStates)[number];

/** The reasons for which a row becomes DEAD. */
export const deadReasons = ['rejected', 'exhausted', 'crash-loop'] as const;
/** The reason for which a row is DEAD. */
export type DeadReason = (typeof deadReasons)[number];
