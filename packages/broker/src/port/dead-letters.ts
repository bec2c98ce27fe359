import type { Message } from './message.ts';
import type { Publisher } from './publisher.ts';
import type { Subscriber } from './subscriber.ts';

/** A message that a group rejected. */
export interface DeadLetter {
  /** The message as it was delivered. */
  readonly message: Message;
  /** Why it was rejected: the handler's reason, or the error of its last attempt. */
  readonly reason: string;
}

/** Chooses the dead letters of one group and topic. */
export interface DeadLetterQuery {
  readonly topic: string;
  readonly group: string;
  /** The most dead letters, oldest first: a whole number from 0, or Infinity. Default: 100 for `list`, all that are there for `redrive`. */
  readonly limit?: number;
}

/** Chooses the dead letters to deliver again. */
export interface RedriveQuery extends DeadLetterQuery {
  /**
   * Ids of messages, as `list` shows them: only their dead letters are redriven. A message that was rejected more than once has several. An id
   * without a dead letter is skipped, and an empty list redrives nothing. Default: all dead letters of the group and topic.
   */
  readonly ids?: readonly string[];
}

/** The messages that groups rejected. A limit or ids that are not valid reject with an InvalidArgumentError. */
export interface DeadLetters {
  /** Reads dead letters, oldest first, and leaves them where they are. */
  list(query: DeadLetterQuery): Promise<readonly DeadLetter[]>;
  /**
   * Delivers dead letters again, oldest first, to the group that rejected them and to no other, as new messages behind those that wait.
   * Returns their number. A crash in between may deliver one twice; none is lost. The dead letters that `ids` does not name stay; on Kafka
   * those before a chosen one move behind the others. Those of a broadcast go to the members that are there: without one it rejects with an
   * InvalidArgumentError, except on Redis and Kafka, which don't tell; there they would be lost.
   */
  redrive(query: RedriveQuery): Promise<number>;
}

/** A broker: it publishes, subscribes, and keeps what was rejected. */
export interface Broker extends Publisher, Subscriber {
  readonly deadLetters: DeadLetters;
  /** Closes the subscriptions, waits for publishes in progress, then closes the connections that it opened itself. */
  close(): Promise<void>;
}
