/** The number of lanes of an outbox. Each stored row names its lane, so this number never changes. */
export const laneCount = 32;
