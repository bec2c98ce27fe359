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
/** Where a claimable row is. */
export type WorkState = (typeof workStates)[number];

/** Why a row is DEAD. */
export const deadReasons = ['rejected', 'exhausted', 'crash-loop'] as const;
/** Why a row is given up. */
export type DeadReason = (typeof deadReasons)[number];
