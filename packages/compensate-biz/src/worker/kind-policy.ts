import { Breaker, type ClaimCap, type KindPolicy, SharedRate } from '@holdfast/core';
import type { BizType } from '../biz-type.ts';
import type { Registered } from '../handler.ts';
import type { Registry } from '../registry.ts';
import { keepsRow } from '../run/keeps-row.ts';
import { RateLimit } from './rate-limit.ts';

const scope = 'compensate-biz';

/** Makes the rules by which a worker claims and runs rows of one type: within its rate, behind its breaker, and not while it is paused. */
export function kindPolicy(
  registry: Registry,
  type: string,
  definition: BizType<unknown, unknown>,
  handler: Registered,
  paused: () => ReadonlySet<string>,
): KindPolicy {
  const { rate } = definition;
  const own = rate?.scope === 'worker' ? new RateLimit(rate.limit, rate.perMs) : undefined;
  const shared = rate?.scope === 'all' ? new SharedRate(registry.database, scope, type, rate) : undefined;
  const breaker = definition.breaker && new Breaker(registry.database, definition.breaker);
  let probing = false;
  const admitted = async (wanted: number): Promise<number> => {
    if (!breaker) return wanted;
    const answer = await breaker.admit(scope, type);
    if (answer === 'probe') probing = true;
    return answer === 'all' ? wanted : answer === 'probe' ? 1 : 0;
  };
  return {
    concurrency: definition.concurrency,
    batch: handler.size,
    keep: (row) => keepsRow(definition, row),
    groupConcurrency: definition.tenantConcurrency,
    maxLost: definition.maxLost,
    cap: rateCap(shared, registry.caps.cap(type)),
    claimAhead: rate === undefined,
    admit: async (wanted) => {
      if (paused().has(type) || shared?.open === false) return 0;
      // The breaker is asked last: it gives one probe, which must not go to a claim that the rate forbids.
      const within = own ? own.reserve(wanted) : wanted;
      if (within < 1) return 0;
      let granted = 0;
      try {
        return (granted = await admitted(within));
      } finally {
        own?.use(within - granted, 0);
      }
    },
    claimed: (granted, rows) => {
      own?.use(granted, rows);
      const unused = probing && rows === 0;
      probing = false;
      if (!unused) return;
      breaker
        ?.giveBack(scope, type)
        .catch((error) => registry.logger.debug({ err: error, type }, 'a probe was not given back to the breaker; it will be given later'));
    },
  };
}

/** Counts what is claimed against a rate over all workers, in the transaction of the claim, within `inner`. */
function rateCap(rate: SharedRate | undefined, inner: ClaimCap | undefined): ClaimCap | undefined {
  if (!rate) return inner;
  return (sql, wanted, claim) => rate.within(sql, wanted, (limit) => (inner ? inner(sql, limit, claim) : claim(limit)));
}
