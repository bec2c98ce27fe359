import { z } from 'zod';

const percent = z.number().min(0).max(100);
const ms = z.number().int().min(0).max(60_000);

/** The misbehaviour of a room. Percentages are of the events or requests that they concern. */
export const misbehaviour = z.object({
  /** Power events that never arrive. */
  losePercent: percent,
  /** Power events that arrive twice. */
  duplicatePercent: percent,
  /** The longest delay of an event. Each event has its own, so they overtake each other. */
  delayMs: ms,
  /** Requests whose answer is lost after they were carried out. */
  lostAnswerPercent: percent,
  /** Grants that are refused although the machine is free; it counts as out of service for a while. */
  refusePercent: percent,
  /** Power-ons and power-offs that fail. */
  failOnPercent: percent,
  failOffPercent: percent,
  /** Of a hundred running machines, the number that lose power each minute. Half of them send no event. */
  crashPercentPerMinute: percent,
  /** The time that a machine takes to come up or go down. */
  switchMs: ms,
  /** The time that each answer takes. */
  answerMs: ms,
});
export type Misbehaviour = z.infer<typeof misbehaviour>;

export const faultless: Misbehaviour = {
  losePercent: 0,
  duplicatePercent: 0,
  delayMs: 0,
  lostAnswerPercent: 0,
  refusePercent: 0,
  failOnPercent: 0,
  failOffPercent: 0,
  crashPercentPerMinute: 0,
  switchMs: 300,
  answerMs: 0,
};

/** The usual misbehaviour of a room. */
export const ordinary: Misbehaviour = {
  ...faultless,
  losePercent: 3,
  duplicatePercent: 10,
  delayMs: 800,
  lostAnswerPercent: 2,
  refusePercent: 5,
  failOnPercent: 4,
  failOffPercent: 4,
  crashPercentPerMinute: 1,
  switchMs: 400,
};
