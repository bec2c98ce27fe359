import { InvalidArgumentError, wholeNumber } from '@holdfast/core';
import type { DeadLetterQuery, DeadLetters } from '../port/dead-letters.ts';

/**
 * Checks what the caller asks for before an adapter does: a wrong limit would mean something else to each of them, and none of them would say
 * so. An infinite limit reaches the adapters as the largest safe number. @throws InvalidArgumentError
 */
export function checkedDeadLetters(adapter: DeadLetters): DeadLetters {
  return {
    list: async (query) => adapter.list(checked(query)),
    redrive: async (query) => {
      const { ids } = query;
      if (ids !== undefined && !(Array.isArray(ids) && ids.every((id) => typeof id === 'string')))
        throw new InvalidArgumentError("ids is not a list of texts; pass the ids of messages as list shows them, as in ids: ['m1'].");
      return adapter.redrive(checked(query));
    },
  };
}

function checked<Query extends DeadLetterQuery>(query: Query): Query {
  const { limit } = query;
  if (limit === undefined) return query;
  return { ...query, limit: limit === Number.POSITIVE_INFINITY ? Number.MAX_SAFE_INTEGER : wholeNumber('limit', limit, { least: 0 }) };
}
