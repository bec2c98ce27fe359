import type { Advance } from './batches/advance.ts';
import type { LeaseWork } from './batches/lease-work.ts';
import type { Biz } from './tasks.ts';

/** Registers the handlers of all tasks: each passes its rows on, and turns what is still open into a snooze or a retry. */
export function handleTasks(biz: Biz, advance: Advance, leases: LeaseWork): void {
  biz.handleBatch('allocate', { size: 16 }, async (items, batch) => {
    const next = await advance.pass(
      items.map(({ context }) => context.batchId),
      items[0]?.signal,
    );
    for (const item of items) {
      const after = next.get(item.context.batchId);
      if (after !== undefined) batch.snooze(item, after);
    }
  });
  biz.handleBatch('power', { size: 16 }, async (items, batch) => {
    for (const to of ['ON', 'OFF'] as const) {
      const some = items.filter(({ context }) => context.to === to);
      const unknown = await leases.power(
        some.flatMap(({ context }) => context.leaseIds),
        to,
        items[0]?.signal,
      );
      for (const item of some)
        if (item.context.leaseIds.some((id) => unknown.has(id))) batch.retry(item, { reason: 'the room did not answer' });
    }
  });
  biz.handleBatch('release', { size: 16 }, async (items, batch) => {
    const waiting = await leases.release(
      items.flatMap(({ context }) => context.leaseIds),
      items[0]?.signal,
    );
    for (const item of items)
      if (item.context.leaseIds.some((id) => waiting.has(id))) batch.retry(item, { reason: 'the room has not confirmed the release' });
  });
  biz.handleBatch('finish', { size: 64 }, (items) => leases.finish(items.map(({ context }) => context.batchId)));
}
