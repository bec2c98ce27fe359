import type { Message } from '@platformatic/kafka';

/** What was read of one partition and has no verdict yet, in order; one delivery at a time. */
export class PartitionQueue {
  readonly topic: string;
  readonly partition: number;
  readonly records: Message[] = [];
  /** Deliveries of the record at the head. */
  attempts = 0;
  running = false;
  /** Until then nothing is delivered: the head is to be retried. */
  timer: NodeJS.Timeout | undefined;
  /** The offset after the last verdict, and of what is committed. */
  done: { readonly offset: bigint; readonly leaderEpoch: number } | undefined;
  committed = -1n;
  #last = -1n;

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  /** After a rebalance the stream begins again at what was committed: what is here already is not taken twice. Returns whether it was taken. */
  push(record: Message): boolean {
    if (record.offset <= this.#last) return false;
    this.#last = record.offset;
    this.records.push(record);
    return true;
  }

  settled(): void {
    const record = this.records.shift();
    this.attempts = 0;
    if (record) this.done = { offset: record.offset + 1n, leaderEpoch: record.leaderEpoch };
  }
}
