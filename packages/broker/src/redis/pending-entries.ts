import type { Redis } from 'ioredis';
import type { RawEntry } from './streams.ts';

/** An entry that was read before, and the number of its next delivery. */
export interface PendingEntry {
  readonly entry: RawEntry;
  readonly attempt: number;
}

const countsPerRead = 1_000;
const entriesPerRead = 100;

/** Claims the entries of a stream that consumers of the group read and did not settle, page by page, in order. */
export async function* claimPending(
  client: Redis,
  stream: string,
  group: string,
  consumer: string,
): AsyncGenerator<readonly PendingEntry[], void> {
  const counts = await deliveryCounts(client, stream, group);
  for (let from = '0-0'; ; ) {
    const [next, entries] = (await client.callBuffer(
      'XAUTOCLAIM',
      stream,
      group,
      consumer,
      '0',
      from,
      'COUNT',
      String(entriesPerRead),
    )) as [Buffer, RawEntry[]];
    yield entries.map((entry) => ({ entry, attempt: (counts.get(entry[0].toString()) ?? 0) + 1 }));
    from = next.toString();
    if (from === '0-0') return;
  }
}

/** How often each pending entry of a stream was delivered. */
async function deliveryCounts(client: Redis, stream: string, group: string): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (let from = '-'; ; ) {
    const pending = (await client.xpending(stream, group, from, '+', countsPerRead)) as [
      id: string,
      consumer: string,
      idle: number,
      deliveries: number,
    ][];
    for (const [id, , , deliveries] of pending) counts.set(id, deliveries);
    const last = pending.at(-1)?.[0];
    if (pending.length < countsPerRead || last === undefined) return counts;
    from = `(${last}`;
  }
}
