import { keyText } from '../check/key-text.ts';
import type { Database } from '../database/database.ts';
import { forUpdate, insertNew } from '../database/dialect-sql.ts';
import type { SqlRunner } from '../database/sql-runner.ts';
import { LeaseLostError } from '../errors/errors.ts';
import { monotonicMs } from '../time/monotonic.ts';

/** A name held under an epoch. Every acquisition has a new epoch, also one by the same owner. */
export interface Lease {
  readonly scope: string;
  readonly name: string;
  readonly owner: string;
  readonly epoch: number;
  /** On the monotonic clock, counted from before the request was sent. After it, act as if the lease were lost. */
  readonly deadline: number;
}

/** Named leases with epochs, and the members of a scope that share its names. */
export class LeaseTable {
  readonly database: Database;
  readonly #leases: string;
  readonly #members: string;

  constructor(database: Database) {
    this.database = database;
    this.#leases = database.table('holdfast_lease');
    this.#members = database.table('holdfast_member');
  }

  /** Takes the name if it is free, if its lease has expired, or if this owner holds it. Returns `undefined` if another owner holds it. */
  async acquire(scope: string, name: string, owner: string, leaseMs: number): Promise<Lease | undefined> {
    checkNames(scope, [name], owner);
    const sentAt = monotonicMs();
    return this.database.transaction(async (sql) => {
      await sql.run(this.#insertNames(1), [scope, name]);
      const changed = await sql.run(
        `UPDATE ${this.#leases} SET owner = ?, epoch = epoch + 1, lease_until = {now} + ? WHERE scope = ? AND name = ? AND (lease_until < {now} OR owner = ?)`,
        [owner, leaseMs, scope, name, owner],
      );
      if (changed === 0) return undefined;
      const [row] = await sql.rows<{ epoch: string | number }>(`SELECT epoch FROM ${this.#leases} WHERE scope = ? AND name = ?`, [
        scope,
        name,
      ]);
      return { scope, name, owner, epoch: Number(row?.epoch), deadline: sentAt + leaseMs };
    });
  }

  /** As {@link acquire}, for several names in three statements. Returns the leases that this owner got. */
  async acquireAll(scope: string, names: readonly string[], owner: string, leaseMs: number): Promise<Lease[]> {
    if (names.length === 0) return [];
    checkNames(scope, names, owner);
    const sentAt = monotonicMs();
    const marks = names.map(() => '?').join(', ');
    return this.database.transaction(async (sql) => {
      await sql.run(
        this.#insertNames(names.length),
        names.flatMap((name) => [scope, name]),
      );
      // Locked in one order: two owners that take the same names would otherwise deadlock.
      const lock = forUpdate(this.database);
      const free = await sql.rows<{ name: string; epoch: string | number }>(
        `SELECT name, epoch FROM ${this.#leases} WHERE scope = ? AND name IN (${marks}) AND (lease_until < {now} OR owner = ?) ORDER BY name${lock}`,
        [scope, ...names, owner],
      );
      if (free.length === 0) return [];
      await sql.run(
        `UPDATE ${this.#leases} SET owner = ?, epoch = epoch + 1, lease_until = {now} + ? WHERE scope = ? AND name IN (${free.map(() => '?').join(', ')})`,
        [owner, leaseMs, scope, ...free.map(({ name }) => name)],
      );
      return free.map(({ name, epoch }) => ({ scope, name, owner, epoch: Number(epoch) + 1, deadline: sentAt + leaseMs }));
    });
  }

  /** Prolongs a lease. @throws LeaseLostError if the name has a later epoch. */
  async renew(lease: Lease, leaseMs: number): Promise<Lease> {
    const sentAt = monotonicMs();
    const changed = await this.database.run(
      `UPDATE ${this.#leases} SET lease_until = {now} + ? WHERE scope = ? AND name = ? AND epoch = ?`,
      [leaseMs, lease.scope, lease.name, lease.epoch],
    );
    if (changed === 0) throw lost(lease);
    return { ...lease, deadline: sentAt + leaseMs };
  }

  /**
   * Prolongs leases of one scope and owner in one statement. Returns the leases that are still held, by name; other owners have taken the
   * rest.
   */
  async renewAll(leases: readonly Lease[], leaseMs: number): Promise<ReadonlyMap<string, Lease>> {
    const [first] = leases;
    const renewed = new Map<string, Lease>();
    if (!first) return renewed;
    const sentAt = monotonicMs();
    const of = `scope = ? AND owner = ? AND name IN (${leases.map(() => '?').join(', ')})`;
    const params = [first.scope, first.owner, ...leases.map(({ name }) => name)];
    await this.database.run(`UPDATE ${this.#leases} SET lease_until = {now} + ? WHERE ${of}`, [leaseMs, ...params]);
    const rows = await this.database.rows<{ name: string; epoch: string | number }>(
      `SELECT name, epoch FROM ${this.#leases} WHERE ${of}`,
      params,
    );
    const epochs = new Map(rows.map((row) => [row.name, Number(row.epoch)]));
    // The statement may have prolonged a later epoch of the same owner. That does not prolong the lease of the earlier epoch.
    for (const lease of leases)
      if (epochs.get(lease.name) === lease.epoch) renewed.set(lease.name, { ...lease, deadline: sentAt + leaseMs });
    return renewed;
  }

  /** Releases the name. Does nothing if the lease is no longer held. */
  async release(lease: Lease): Promise<void> {
    await this.database.run(`UPDATE ${this.#leases} SET lease_until = {now} - 1, owner = NULL WHERE scope = ? AND name = ? AND epoch = ?`, [
      lease.scope,
      lease.name,
      lease.epoch,
    ]);
  }

  /**
   * Fences a transaction: locks the row of the lease, so that a takeover waits for the commit, and a transaction that comes after a takeover
   * is refused. (A condition `EXISTS (… epoch = ?)` holds while a takeover commits.)
   * @throws LeaseLostError if the name has a later epoch.
   */
  async fence(sql: SqlRunner, lease: Lease): Promise<void> {
    const lock = forUpdate(this.database);
    const [row] = await sql.rows<{ epoch: string | number }>(`SELECT epoch FROM ${this.#leases} WHERE scope = ? AND name = ?${lock}`, [
      lease.scope,
      lease.name,
    ]);
    if (Number(row?.epoch) !== lease.epoch) throw lost(lease);
  }

  /** Reads a number that a holder of a lease left for later holders: see {@link setMark}. 0 if there is none. */
  async mark(scope: string, name: string): Promise<number> {
    const [row] = await this.database.rows<{ mark: string }>(
      `SELECT ${this.database.text('lease_until')} AS mark FROM ${this.#leases} WHERE scope = ? AND name = ?`,
      [scope, name],
    );
    return Number(row?.mark ?? 0);
  }

  /**
   * Stores a time, in ms since 1970, for later holders of `lease`, under a scope and name that nobody takes as a lease. A purge keeps it for 30 days
   * after that time.
   * @throws LeaseLostError if `lease` is no longer held
   */
  async setMark(lease: Lease, scope: string, name: string, ms: number): Promise<void> {
    await this.database.transaction(async (sql) => {
      await this.fence(sql, lease);
      await sql.run(this.#insertNames(1), [scope, name]);
      await sql.run(`UPDATE ${this.#leases} SET lease_until = ? WHERE scope = ? AND name = ?`, [ms, scope, name]);
    });
  }

  /** Records that `member` of `scope` is alive for another `aliveMs`. */
  async heartbeat(scope: string, member: string, aliveMs: number): Promise<void> {
    await this.database.transaction(async (sql) => {
      const changed = await sql.run(`UPDATE ${this.#members} SET alive_until = {now} + ? WHERE scope = ? AND member = ?`, [
        aliveMs,
        scope,
        member,
      ]);
      if (changed === 0)
        await sql.run(`INSERT INTO ${this.#members} (scope, member, alive_until) VALUES (?, ?, {now} + ?)`, [scope, member, aliveMs]);
      await sql.run(`DELETE FROM ${this.#members} WHERE scope = ? AND alive_until < {now} - ${memberKeptMs}`, [scope]);
    });
  }

  /** The members of `scope` that are alive, in a stable order. */
  async members(scope: string): Promise<string[]> {
    const rows = await this.database.rows<{ member: string }>(
      `SELECT member FROM ${this.#members} WHERE scope = ? AND alive_until >= {now} ORDER BY member`,
      [scope],
    );
    return rows.map((row) => row.member);
  }

  /** Removes a member. */
  async leave(scope: string, member: string): Promise<void> {
    await this.database.run(`DELETE FROM ${this.#members} WHERE scope = ? AND member = ?`, [scope, member]);
  }

  /**
   * Deletes members of any scope that have been silent for an hour, and leases that ended 30 days ago. Both tables hold one row for each name
   * in use besides, so it reads them whole; an index on the times would be written by each renewal. Returns the number of rows deleted.
   */
  async purge(): Promise<number> {
    const members = await this.database.run(`DELETE FROM ${this.#members} WHERE alive_until < {now} - ${memberKeptMs}`);
    return members + (await this.database.run(`DELETE FROM ${this.#leases} WHERE lease_until < {now} - ${leaseKeptMs}`));
  }

  /** The names of `scope` that are held, each with its holder. */
  async holders(scope: string): Promise<Map<string, string>> {
    const rows = await this.database.rows<{ name: string; owner: string }>(
      `SELECT name, owner FROM ${this.#leases} WHERE scope = ? AND lease_until >= {now} AND owner IS NOT NULL`,
      [scope],
    );
    return new Map(rows.map((row) => [row.name, row.owner]));
  }

  /**
   * Adds names that nobody holds. The first epoch of a name is the time, so that it is higher than those before the name was purged: a holder
   * of that time must not be taken for the new one.
   */
  #insertNames(count: number): string {
    const values = Array.from({ length: count }, () => '(?, ?, {now})').join(', ');
    return insertNew(this.database, `INTO ${this.#leases} (scope, name, epoch) VALUES ${values}`);
  }
}

const memberKeptMs = 3_600_000;
const leaseKeptMs = 30 * 86_400_000;

function lost(lease: Lease): LeaseLostError {
  return new LeaseLostError(
    `The lease ${lease.scope}/${lease.name} of epoch ${lease.epoch} (${lease.owner}) has passed to another holder. Stop; nothing written under it will be accepted.`,
  );
}

/** MySQL and MariaDB would cut a longer name, and its lease could never be taken. */
function checkNames(scope: string, names: readonly string[], owner: string): void {
  keyText('scope', scope, 100);
  for (const name of names) keyText('name', name);
  keyText('owner', owner, 100);
}
