import { Breaker, type KindPolicy } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { keepsRow } from '../run/keeps-row.ts';
import { RateLimit } from './rate-limit.ts';

/** Makes the rules by which a worker claims and runs rows of one type: within its rate, behind its breaker, and not while it is paused. */
export function kindPolicy(
  registry: Registry,
  type: string,
  definition: BizType<unknown, unknown>,
  handler: Registered,
  paused: () => ReadonlySet<string>,
): KindPolicy {
  const rate = definition.rate && new RateLimit(definition.rate.limit, definition.rate.perMs);
  const breaker = definition.breaker && new Breaker(registry.database, definition.breaker);
  return {
    concurrency: definition.concurrency,
    batch: handler.size,
    keep: (row) => keepsRow(definition, row),
    groupConcurrency: definition.tenantConcurrency,
    maxLost: definition.maxLost,
    cap: registry.caps.cap(type),
    admit: async (wanted) => {
      if (paused().has(type)) return 0;
      if (breaker) {
        const admitted = await breaker.admit('compensate-biz', type);
        if (admitted !== 'all') return admitted === 'probe' ? 1 : 0;
      }
      return rate ? rate.take(wanted) : wanted;
    },
  };
}
