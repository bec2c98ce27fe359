import type { Logger } from '@holdfast/core';
import { timeoutSignal } from '@holdfast/core';
import type { z } from 'zod';
import type { DispatchAdapter } from './adapter.ts';
import { grantsAnswer, machinesAnswer, powerAnswer, releasesAnswer } from './protocol.ts';

export interface HttpAdapterOptions {
  /** Returns the current address of the room; called for each request, since the room may move. */
  readonly url: () => Promise<string>;
  /** The bearer token for the room. */
  readonly token: string;
  /** The time in ms after which an answer counts as lost. Default 5,000. */
  readonly timeoutMs?: number;
  readonly logger: Logger;
}

const perRequest = 500;

/** A room over HTTP. */
export function httpAdapter(options: HttpAdapterOptions): DispatchAdapter {
  const { logger } = options;
  const ask = async <T extends z.ZodType>(
    method: string,
    path: string,
    answer: T,
    body: unknown,
    signal?: AbortSignal,
  ): Promise<z.infer<T>> => {
    const timeout = timeoutSignal(options.timeoutMs ?? 5_000);
    const response = await fetch(new URL(path, await options.url()), {
      method,
      headers: { authorization: `Bearer ${options.token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      redirect: 'error',
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`The room answered ${response.status} to ${method} ${path.split('?')[0]}.`);
    return answer.parse(await response.json());
  };
  /** Sends requests in portions. If a portion fails, its items are `unknown`. */
  const each = async <Item, Result extends { readonly outcome: string }>(
    items: readonly Item[],
    send: (some: readonly Item[]) => Promise<{ readonly results: readonly Result[] }>,
  ): Promise<readonly (Result | { readonly outcome: 'unknown' })[]> => {
    const all: (Result | { readonly outcome: 'unknown' })[] = [];
    for (let from = 0; from < items.length; from += perRequest) {
      const some = items.slice(from, from + perRequest);
      try {
        const { results } = await send(some);
        if (results.length !== some.length) throw new Error(`The room answered ${results.length} results to ${some.length} requests.`);
        all.push(...results);
      } catch (err) {
        logger.warn({ err, count: some.length }, 'the room did not answer as expected; the outcome of the requests is unknown');
        all.push(...some.map(() => ({ outcome: 'unknown' }) as const));
      }
    }
    return all;
  };
  return {
    grant: (requests, call) => each(requests, (some) => ask('POST', 'v1/grants', grantsAnswer, { requests: some }, call?.signal)),
    power: (commands, call) => each(commands, (some) => ask('POST', 'v1/power', powerAnswer, { commands: some }, call?.signal)),
    release: (leases, call) => each(leases, (some) => ask('POST', 'v1/releases', releasesAnswer, { leases: some }, call?.signal)),
    list: ({ after, limit }, call) =>
      ask(
        'GET',
        `v1/machines?limit=${limit}${after === undefined ? '' : `&after=${encodeURIComponent(after)}`}`,
        machinesAnswer,
        undefined,
        call?.signal,
      ),
  };
}
