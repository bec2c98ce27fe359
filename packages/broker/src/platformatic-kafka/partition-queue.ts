import type { Timer } from '@holdfast/core';
import type { Message } from '@platformatic/kafka';

/** Records of one partition without a verdict, in order. They are delivered one at a time. */
export class PartitionQueue {
  readonly topic: string;
  readonly partition: number;
  readonly records: Message[] = [];
  /** Aborts when the partition belongs to another member, or must be read again. */
  readonly lost: AbortController = new AbortController();
  /** The number of deliveries of the record at the head. */
  attempts = 0;
  /** Set while the head waits for its next delivery. */
  timer: Timer | undefined;
  /** The offset after the last record with a verdict. */
  settled: { readonly offset: bigint; readonly leaderEpoch: number } | undefined;
  /** The last committed offset; -1 for none. */
  committed = -1n;
  #last = -1n;

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  /** Adds a record and returns true, unless it was added before: after a rebalance the stream restarts at the committed offset. */
  push(record: Message): boolean {
    if (record.offset <= this.#last) return false;
    this.#last = record.offset;
    this.records.push(record);
    return true;
  }

  /** Gives the partition up. Returns the number of records that had no verdict. */
  drop(): number {
    this.timer?.clear();
    this.lost.abort(new Error('Another member has taken over the partition of this message; the message will be delivered again there.'));
    return this.records.length;
  }

  /** Removes the head after its verdict. */
  settleHead(): void {
    const record = this.records.shift();
    this.attempts = 0;
    if (record) this.settled = { offset: record.offset + 1n, leaderEpoch: record.leaderEpoch };
  }
}
