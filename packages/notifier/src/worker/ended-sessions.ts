import type { ClaimedRow, Events, Logger, SettleHook } from '@holdfast/core';
import type { EndpointTable } from '../endpoint/endpoint-table.ts';
import type { NotifierEvents } from '../events.ts';
import type { SessionEnd } from './session.ts';

export interface EndedSessionsOptions {
  readonly endpoints: Pick<EndpointTable, 'keepState'>;
  readonly events: Events<NotifierEvents>;
  readonly logger: Logger;
}

/**
 * The sessions that have ended and whose endpoints are being given back. Their state is stored in the transaction that gives the endpoint
 * back; whoever listens hears of a disabled endpoint after it.
 */
export class EndedSessions {
  readonly #options: EndedSessionsOptions;
  /** By the id of the endpoint. */
  readonly #ends = new Map<string, SessionEnd>();

  constructor(options: EndedSessionsOptions) {
    this.#options = options;
  }

  has(endpointId: string): boolean {
    return this.#ends.has(endpointId);
  }

  /** Keeps the end of a session until {@link settled}. */
  add(endpointId: string, end: SessionEnd): void {
    this.#ends.set(endpointId, end);
    if (end.openMs !== undefined) this.#options.events.emit('endpoint:opened', { endpointId, openMs: end.openMs });
  }

  /** Forgets the end of a session, whose endpoint was given back, or was lost before that. */
  settled({ id, payload }: ClaimedRow, givenBack: boolean): void {
    const end = this.#ends.get(id);
    this.#ends.delete(id);
    if (!givenBack || !end?.disable || end.failingMs === undefined) return;
    const { origin, tenant } = payload;
    const failingMs = Math.round(end.failingMs);
    this.#options.logger.warn(
      { endpoint: id, tenant, origin, failingMs },
      'an endpoint was disabled, since it has acknowledged nothing for disableAfter; resume it once the receiver is fixed',
    );
    this.#options.events.emit('endpoint:disabled', { endpointId: id, failingMs });
  }

  /** Stores the state in which sessions ended, in the transaction that gives their endpoints back. */
  keepState(rows: readonly ClaimedRow[]): SettleHook {
    return async (sql, settled) => {
      const ids = new Set(settled.map(({ row }) => row.id));
      const ends = rows.flatMap(({ id }) => {
        const end = ids.has(id) ? this.#ends.get(id) : undefined;
        return end ? [{ id, ...end }] : [];
      });
      if (ends.length > 0) await this.#options.endpoints.keepState(sql, ends);
    };
  }
}
