import type { Knex } from 'knex';
import { idle } from '../time/wait.ts';
import { discard } from './discard.ts';
import { LoopPool, type PoolClient, unavailable } from './loop-pool.ts';
import { postgresCorrections } from './postgres-session.ts';
import { prepareSession } from './session.ts';
import type { SqlRunner } from './sql-runner.ts';
import { isConnectionError } from './transient.ts';

/** A connection that was taken, and the pool that gets it back. */
export interface Taken {
  readonly client: PoolClient;
  readonly connection: object;
}

/** The knex whose server the connections lead to. */
export interface ConnectionsOptions {
  readonly knex: Knex;
  readonly family: 'postgres' | 'mysql' | 'sqlite';
  /** Size of the loops' pool. */
  readonly loopConnections: number;
  /** Makes a runner on a connection, whose dialect is exact. */
  readonly runner: (connection: object) => Promise<SqlRunner>;
}

/**
 * The connections for statements outside of the caller's transactions: those of the loops' own pool, with our session settings; on PostgreSQL
 * also free ones of the service, while no loop runs; on SQLite the one that the process has.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  /** Undefined on SQLite, where a process has one connection. */
  readonly #loops: LoopPool | undefined;
  #closed = false;
  #inUse = 0;
  #quiet: (() => void) | undefined;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#loops = options.family === 'sqlite' ? undefined : LoopPool.join(options.knex, options.loopConnections);
  }

  /** Returns whether a connection has our session settings. */
  prepared(connection: object): boolean {
    return this.#loops?.prepared.has(connection) ?? false;
  }

  /** Notes that loops run in this process: see {@link LoopPool.run}. Returns the function that ends it. */
  runLoops(): () => void {
    return this.#loops?.run() ?? (() => undefined);
  }

  /** Takes a connection, which must be released. @throws DatabaseUnavailableError */
  async acquire(): Promise<Taken> {
    this.#refuseIfClosed();
    this.#inUse += 1;
    const { knex, family } = this.#options;
    try {
      if (!this.#loops) return await take(knex.client as PoolClient);
      return (family === 'postgres' ? await this.#borrow(this.#loops) : undefined) ?? (await this.#acquireOwn(this.#loops));
    } catch (error) {
      this.#returned();
      throw error;
    }
  }

  async release({ client, connection }: Taken): Promise<void> {
    try {
      await client.releaseConnection(connection);
    } finally {
      this.#returned();
    }
  }

  /** Opens a connection outside of every pool, with our session settings. @throws DatabaseUnavailableError */
  async open(): Promise<{ readonly connection: object; close(): Promise<void> }> {
    this.#refuseIfClosed();
    const client = this.#loops?.client ?? (this.#options.knex.client as PoolClient);
    const connection = await client.acquireRawConnection().catch((error: unknown) => {
      throw unavailable(error);
    });
    (connection as { on?(event: string, listener: () => void): void }).on?.('error', () => {
      // The next statement reports a lost connection. Without a listener the event would end the process.
    });
    const close = (): Promise<void> => closeWithin(closeMs, client, connection);
    try {
      await this.#prepare(connection);
    } catch (error) {
      await close();
      throw isConnectionError(error) ? unavailable(error) : error;
    }
    return { connection, close };
  }

  /** Waits until every connection is released, and leaves the loops' pool. */
  async close(): Promise<void> {
    if (this.#closed || !this.#loops) return;
    this.#closed = true;
    while (this.#inUse > 0) await new Promise<void>((resolve) => (this.#quiet = resolve));
    await this.#loops.leave();
  }

  async #prepare(connection: object): Promise<void> {
    await prepareSession(connection, await this.#options.runner(connection));
    this.#loops?.prepared.add(connection);
  }

  async #acquireOwn(loops: LoopPool): Promise<Taken> {
    const taken = await take(loops.client);
    if (loops.prepared.has(taken.connection)) return taken;
    try {
      await this.#prepare(taken.connection);
      return taken;
    } catch (error) {
      return giveUp(taken, error);
    }
  }

  /** PostgreSQL: borrows a connection of the service, if {@link LoopPool.lender} lends one and its defaults are those of our statements. */
  async #borrow(loops: LoopPool): Promise<Taken | undefined> {
    const client = loops.lender;
    if (!client) return undefined;
    const taken = await take(client);
    const { connection } = taken;
    if (loops.fit.has(connection)) return taken;
    try {
      if ((await postgresCorrections(await this.#options.runner(connection))).length === 0) {
        loops.fit.add(connection);
        return taken;
      }
      loops.unfit = true;
    } catch (error) {
      return giveUp(taken, error);
    }
    await client.releaseConnection(connection);
    return undefined;
  }

  #returned(): void {
    this.#inUse -= 1;
    if (this.#inUse === 0) this.#quiet?.();
  }

  #refuseIfClosed(): void {
    if (this.#closed) throw unavailable(new Error('Holdfast was closed; this call came after close()'));
  }
}

async function take(client: PoolClient): Promise<Taken> {
  try {
    return { client, connection: await client.acquireConnection() };
  } catch (error) {
    throw unavailable(error);
  }
}

/** Drops a connection that could not be made ready. */
async function giveUp({ client, connection }: Taken, error: unknown): Promise<never> {
  discard(connection, error);
  await client.releaseConnection(connection);
  throw isConnectionError(error) ? unavailable(error) : error;
}

/** How long a server may take to end a connection, in ms. */
const closeMs = 2_000;

/** Ends a connection. Over one that is cut, the server's answer never arrives: its socket is then closed. */
async function closeWithin(ms: number, client: PoolClient, connection: object): Promise<void> {
  const ended = new AbortController();
  const closed = client.destroyRawConnection(connection).then(
    () => undefined,
    () => undefined,
  );
  const late = idle(ms, ended.signal).then(
    () => {
      const { connection: wire, destroy } = connection as { connection?: { stream?: { destroy(): void } }; destroy?(): void };
      if (wire?.stream) wire.stream.destroy();
      else destroy?.call(connection);
    },
    () => undefined,
  );
  await Promise.race([closed, late]);
  ended.abort(new Error('closed'));
}
