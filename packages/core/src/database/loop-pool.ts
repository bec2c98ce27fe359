import knexFactory, { type Knex } from 'knex';
import { wholeNumber } from '../check/whole-number.ts';
import { DatabaseUnavailableError } from '../errors/errors.ts';

/** The part of knex's client that hands out connections. */
export interface PoolClient {
  acquireConnection(): Promise<object>;
  releaseConnection(connection: object): Promise<void>;
  acquireRawConnection(): Promise<object>;
  destroyRawConnection(connection: object): Promise<void>;
}

/** Makes a pool for the loops, from the configuration of the service's knex. */
export function loopPool(knex: Knex, loopConnections: number): Knex {
  const max = wholeNumber('loopConnections', loopConnections);
  const config = (knex.client as { config: Knex.Config }).config;
  const { afterCreate } = config.pool ?? {};
  return knexFactory({
    ...config,
    pool: { min: 0, max, idleTimeoutMillis: 30_000, ...(afterCreate ? { afterCreate } : {}) },
    acquireConnectionTimeout: 15_000,
    // Callers get each of these as an error. knex would also print it, again and again during an outage.
    log: { warn: ignore, error: ignore, deprecate: ignore, debug: ignore },
  });
}

function ignore(): void {
  // See `log` above.
}

/** The error of a caller for whom no connection could be opened. */
export function unavailable(error: unknown): DatabaseUnavailableError {
  if (DatabaseUnavailableError.is(error, 'database-unavailable')) return error as DatabaseUnavailableError;
  const { message, code } = (error ?? {}) as { message?: string; code?: string };
  return new DatabaseUnavailableError(
    `No connection to the database: ${message || code || String(error)}. Check the address in knex's configuration and that the server runs.`,
    error,
  );
}
