import type { Logger } from '@holdfast/core';
import type { EndStore, StoredEnd } from '../store/end-store.ts';
import { type AdminClient, AdminError } from './admin-client.ts';

/** The most ends in one request. */
const batch = 100;
/** The most requests of one pass, so that an admin that refuses everything is not asked 200 times. One bad end of 100 takes 15. */
const requestsPerPass = 20;
/** Ends that were refused alone and are tried again in one pass. */
const singlesPerPass = 5;
const [firstPauseMs, longestPauseMs] = [1_000, 60_000];

/**
 * Reports stored ends to the admins. A batch that is refused is halved, until the end that the admin does not take is alone: that one is set
 * aside, and tried again alone, less and less often, so that it blocks none behind it.
 */
export class EndDelivery {
  readonly #store: EndStore;
  readonly #client: AdminClient;
  readonly #logger: Logger;
  #requests = 0;

  constructor(store: EndStore, client: AdminClient, logger: Logger) {
    this.#store = store;
    this.#client = client;
    this.#logger = logger;
  }

  /** Reports the ends that are due, about a hundred. Returns how many were accepted. @throws AdminError if no admin can be reached */
  async deliver(): Promise<number> {
    this.#requests = 0;
    const due = await this.#store.due(batch);
    let accepted = await this.#report(due.filter(({ refusals }) => refusals === 0));
    for (const end of due.filter(({ refusals }) => refusals > 0).slice(0, singlesPerPass)) accepted += await this.#report([end]);
    return accepted;
  }

  async #report(ends: readonly StoredEnd[]): Promise<number> {
    if (ends.length === 0 || this.#requests >= requestsPerPass) return 0;
    this.#requests += 1;
    try {
      await this.#client.callback(ends.map(({ end }) => end));
    } catch (error) {
      if (!(error instanceof AdminError) || !error.refused) throw error;
      const [only, ...more] = ends;
      if (only && more.length === 0) {
        await this.#setAside(only, error);
        return 0;
      }
      const half = ends.length >> 1;
      return (await this.#report(ends.slice(0, half))) + (await this.#report(ends.slice(half)));
    }
    await this.#store.remove(ends.map(({ id }) => id));
    return ends.length;
  }

  async #setAside({ id, end, refusals }: StoredEnd, err: AdminError): Promise<void> {
    const ms = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(refusals, 10));
    this.#logger.warn(
      { err, logId: end.logId, retryMs: ms },
      `no admin takes the end of the run ${end.logId}; the others are reported, and it is tried again`,
    );
    await this.#store.refused(id, ms);
  }
}
