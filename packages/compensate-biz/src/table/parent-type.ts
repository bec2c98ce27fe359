/** Type of the rows of fan-outs. They are BLOCKED until their children have ended, so no worker claims them. */
export const parentType = 'fan-out';
