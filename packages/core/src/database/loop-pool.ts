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

/** The part of knex's pool that tells whether a connection can be had without waiting. */
interface Room {
  readonly max: number;
  numUsed(): number;
  numPendingAcquires(): number;
}

const pools = new WeakMap<object, LoopPool>();

/**
 * The connections of the loops of one process to one database, beside the pool of the service's knex. All `Database`s over one knex share
 * them, whichever package they belong to. None is opened before it is needed, and an idle one is closed after 30 s.
 */
export class LoopPool {
  /** The connections that have the session settings of the loops. */
  readonly prepared: WeakSet<object> = new WeakSet();
  /** Connections of the service whose settings fit statements of ours: see {@link lender}. */
  readonly fit: WeakSet<object> = new WeakSet();
  /** Set if the service's connections have settings that do not fit. */
  unfit = false;
  readonly #service: Knex;
  #max = 1;
  #users = 0;
  #running = 0;
  #knex: Knex | undefined;

  private constructor(service: Knex) {
    this.#service = service;
  }

  /** Joins the pool of a knex. Its size is the largest that any user asked for. Each user calls {@link leave} once. */
  static join(service: Knex, loopConnections: number): LoopPool {
    const max = wholeNumber('loopConnections', loopConnections);
    const pool = pools.get(service.client as object) ?? new LoopPool(service);
    pools.set(service.client as object, pool);
    pool.#users += 1;
    pool.#max = Math.max(pool.#max, max);
    if (pool.#knex) (pool.#knex.client as { pool: { max: number } }).pool.max = pool.#max;
    return pool;
  }

  /** Leaves the pool. The last user closes its connections. */
  async leave(): Promise<void> {
    this.#users -= 1;
    if (this.#users > 0) return;
    pools.delete(this.#service.client as object);
    await this.#knex?.destroy();
  }

  /** The loops' own connections. */
  get client(): PoolClient {
    this.#knex ??= makePool(this.#service, this.#max);
    return this.#knex.client as PoolClient;
  }

  /** Notes that loops run in this process, so that their statements need connections of their own. Returns the function that ends it. */
  run(): () => void {
    let ended = false;
    this.#running += 1;
    return () => {
      if (ended) return;
      ended = true;
      this.#running -= 1;
    };
  }

  /**
   * The service's own pool, if a statement of ours may borrow from it: no loop runs in this process, and a connection can be had at once. So
   * a process that only submits opens no connection besides those of its knex; and since nothing ever waits here, a pool of one that the
   * caller's own transaction occupies is no deadlock.
   */
  get lender(): PoolClient | undefined {
    if (this.#running > 0 || this.unfit) return undefined;
    const client = this.#service.client as PoolClient & { readonly pool?: Partial<Room> };
    const { pool } = client;
    if (typeof pool?.numUsed !== 'function') return undefined;
    const room = pool as Room;
    // Those that are free, being opened, or may be opened, less those that others have asked for already.
    return room.max - room.numUsed() > room.numPendingAcquires() ? client : undefined;
  }
}

/** Makes a pool from the configuration of the service's knex. */
function makePool(knex: Knex, max: number): Knex {
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
