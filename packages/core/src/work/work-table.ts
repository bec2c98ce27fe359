import type { Database } from '../database/database.ts';
import type { Executor } from '../database/executor.ts';
import type { StoredError } from '../errors/stored-error.ts';
import { type IdList, idList } from './id-list.ts';
import type { WorkState } from './states.ts';
import type { Verdict } from './verdict.ts';

/** Names of a claimable table's parts. The remaining claim columns have the same names everywhere. */
export interface WorkTableShape {
  readonly table: string;
  /** Where failed and lost attempts are kept, one row each. */
  readonly attemptTable: string;
  readonly columns: { readonly kind: string; readonly group: string; readonly attempts: string; readonly error: string };
  /** Further columns that a claim returns, with the SQL that reads them. */
  readonly payload: Readonly<Record<string, string>>;
  /** How each state is written in `status`. They become literals in SQL, so that partial indexes match. */
  readonly states: Readonly<Record<WorkState, string>>;
  /** How many ms of waiting one step of priority is worth. */
  readonly agingStepMs: number;
}

/** A row as claimed. */
export interface ClaimedRow {
  readonly id: string;
  readonly version: number;
  readonly kind: string;
  readonly group: string;
  /** Starts in all, this one included. */
  readonly starts: number;
  /** Starts with no verdict before this one. */
  readonly lost: number;
  /** Failed attempts so far. */
  readonly attempts: number;
  readonly payload: Readonly<Record<string, string | null>>;
}

export interface Settlement {
  readonly row: ClaimedRow;
  readonly verdict: Verdict;
  /** For `done`: whether the row is kept as DONE or deleted. */
  readonly keep: boolean;
}

/** What a claim may take. */
export interface ClaimQuery {
  readonly kind: string;
  readonly group: string;
  readonly limit: number;
  readonly owner: string;
  readonly leaseMs: number;
  /** Take rows whose earlier start got no verdict (alone), instead of all others. */
  readonly suspects?: boolean;
}

type WorkRecord = Record<string, string | number | null>;

/** Runs inside the transaction that settles rows, after their statements. */
export type SettleHook = (executor: Executor, settled: readonly Settlement[]) => Promise<void>;

/** Claimable rows: see `states.ts` for the machine. Every write names the version it was made under. */
export class WorkTable {
  readonly database: Database;
  readonly shape: WorkTableShape;
  readonly #t: string;
  readonly #attempts: string;

  constructor(database: Database, shape: WorkTableShape) {
    this.database = database;
    this.shape = shape;
    this.#t = database.table(shape.table);
    this.#attempts = database.table(shape.attemptTable);
  }

  /** SQL literal of a state. */
  state(state: WorkState): string {
    return `'${this.shape.states[state]}'`;
  }

  /**
   * Takes up to `limit` READY rows of one kind and group, most urgent first.
   *
   * Postgres: index `(kind, group, claim_rank, id)`; row locks, those of others skipped. `= ANY(ARRAY(…))` keeps the
   * plan on the primary key: `IN (SELECT …)` hashes the whole table under a generic plan (6.8k against 22.5k rows/s).
   * The LIMIT is a literal, 8 to 12% faster than a parameter for small batches.
   * MySQL, MariaDB: one transaction of SELECT … SKIP LOCKED and UPDATE; few claimers and big batches, since their
   * SKIP LOCKED gets slower with connections. SQLite: one statement under the write lock.
   */
  async claim(query: ClaimQuery): Promise<ClaimedRow[]> {
    const { kind, group } = this.shape.columns;
    const pick = `SELECT id FROM ${this.#t} WHERE status = ${this.state('ready')} AND lost ${query.suspects ? '> 0' : '= 0'} AND ${kind} = ?${
      query.suspects ? '' : ` AND ${group} = ?`
    } ORDER BY claim_rank, ${this.#t}.id LIMIT ${Math.max(1, Math.trunc(query.limit))}`;
    const keys = query.suspects ? [query.kind] : [query.kind, query.group];
    return this.#claimPicked(pick, keys, query.owner, query.leaseMs);
  }

  /** Takes those of the given rows that are READY. None taken means that somebody else has them. */
  async claimIds(ids: readonly string[], owner: string, leaseMs: number): Promise<ClaimedRow[]> {
    if (ids.length === 0) return [];
    const list = this.#ids(ids);
    const pick = `SELECT id FROM ${this.#t} WHERE ${list.sql} AND lost = 0 AND status = ${this.state('ready')}`;
    return this.#claimPicked(pick, list.params, owner, leaseMs);
  }

  async #claimPicked(pick: string, params: readonly unknown[], owner: string, leaseMs: number): Promise<ClaimedRow[]> {
    const set = `status = ${this.state('running')}, version = version + 1, starts = starts + 1, lost = lost + 1, lease_until = {now} + ?, owner = ?, updated_at = {timestamp}`;
    if (this.database.family === 'postgres') {
      const sql = `UPDATE ${this.#t} SET ${set} WHERE id = ANY(ARRAY(${pick} FOR UPDATE SKIP LOCKED)) RETURNING ${this.#claimColumns(0)}`;
      return (await this.database.rows<WorkRecord>(sql, [leaseMs, owner, ...params])).map((row) => this.#claimed(row));
    }
    if (this.database.family === 'sqlite') {
      const sql = `UPDATE ${this.#t} SET ${set} WHERE id IN (${pick}) RETURNING ${this.#claimColumns(0)}`;
      return (await this.database.rows<WorkRecord>(sql, [leaseMs, owner, ...params])).map((row) => this.#claimed(row));
    }
    return this.database.transaction(async (x) => {
      const rows = await x.rows<WorkRecord>(
        `${pick.replace('SELECT id', `SELECT ${this.#claimColumns(1)}`)} FOR UPDATE SKIP LOCKED`,
        params,
      );
      if (rows.length === 0) return [];
      const list = this.#ids(rows.map((row) => String(row.id)));
      await x.run(`UPDATE ${this.#t} SET ${set} WHERE ${list.sql}`, [leaseMs, owner, ...list.params]);
      return rows.map((row) => this.#claimed(row));
    });
  }

  /**
   * Pairs of kind and group that have READY rows. A loose scan over the READY index: a few probes per pair, however
   * many rows wait behind each.
   */
  async ready(limit: number = 1000): Promise<{ readonly kind: string; readonly group: string; readonly suspects: boolean }[]> {
    const { kind, group } = this.shape.columns;
    const where = `status = ${this.state('ready')} AND lost = 0`;
    const suspects = `SELECT DISTINCT ${kind} AS kind, '' AS grp, 1 AS suspects FROM ${this.#t} WHERE status = ${this.state('ready')} AND lost > 0`;
    let rows: { kind: string; grp: string; suspects: number }[];
    if (this.database.family === 'postgres') {
      rows = await this.database.rows(
        `WITH RECURSIVE g AS (
          (SELECT ${kind} AS kind, ${group} AS grp FROM ${this.#t} WHERE ${where} ORDER BY ${kind}, ${group} LIMIT 1)
          UNION ALL
          SELECT n.kind, n.grp FROM g CROSS JOIN LATERAL (
            SELECT ${kind} AS kind, ${group} AS grp FROM ${this.#t} WHERE ${where} AND (${kind}, ${group}) > (g.kind, g.grp) ORDER BY ${kind}, ${group} LIMIT 1
          ) n
        ) (SELECT kind, grp, 0 AS suspects FROM g LIMIT ${limit}) UNION ALL (${suspects})`,
      );
    } else {
      // Neither a lateral join nor a usable row comparison: a probe per pair.
      rows = await this.database.use(async (x) => {
        const found: { kind: string; grp: string; suspects: number }[] = [];
        for (let last: { kind: string; grp: string } | undefined; found.length < limit; ) {
          const after: string = last ? ` AND (${kind} > ? OR (${kind} = ? AND ${group} > ?))` : '';
          const [row]: { kind: string; grp: string }[] = await x.rows(
            `SELECT ${kind} AS kind, ${group} AS grp FROM ${this.#t} WHERE ${where}${after} ORDER BY ${kind}, ${group} LIMIT 1`,
            last ? [last.kind, last.kind, last.grp] : [],
          );
          if (!row) break;
          last = row;
          found.push({ ...row, suspects: 0 });
        }
        return [...found, ...(await x.rows<{ kind: string; grp: string; suspects: number }>(suspects))];
      });
    }
    return rows.map((row) => ({ kind: row.kind, group: row.grp, suspects: Number(row.suspects) === 1 }));
  }

  /**
   * Ends runs, each under the version it was claimed with. Returns the ids that were still the caller's; the others
   * have been taken over, cancelled or redriven, and nothing of theirs was changed.
   *
   * All `done` rows of a version go in one statement. The status is compared as an expression so that the planner stays
   * on the primary key: statistics taken when every row was READY call the lease index empty, and walking it for each
   * batch ran at 5k rows/s instead of 138k.
   */
  async settle(settlements: readonly Settlement[], hook?: SettleHook): Promise<Set<string>> {
    const settled = new Set<string>();
    if (settlements.length === 0) return settled;
    const done = groupDone(settlements);
    const others = settlements.filter((settlement) => settlement.verdict.outcome !== 'done');
    const single = done.length === 1 ? done[0] : undefined;
    if (single && others.length === 0 && hook === undefined) {
      for (const id of await this.database.use((x) => this.#settleDone(x, single, false))) settled.add(id);
      return settled;
    }
    await this.database.transaction(async (x) => {
      settled.clear();
      for (const batch of done) for (const id of await this.#settleDone(x, batch, hook !== undefined)) settled.add(id);
      for (const settlement of others) if (await this.#settleOther(x, settlement)) settled.add(settlement.row.id);
      const accepted = settlements.filter((settlement) => settled.has(settlement.row.id));
      await this.#keepAttempts(x, accepted);
      await hook?.(x, accepted);
    });
    return settled;
  }

  /** Settles inside an open transaction (which should do nothing after it). Returns the ids that were still ours. */
  async settleIn(executor: Executor, settlements: readonly Settlement[]): Promise<Set<string>> {
    const settled = new Set<string>();
    for (const batch of groupDone(settlements)) for (const id of await this.#settleDone(executor, batch, true)) settled.add(id);
    for (const settlement of settlements) {
      if (settlement.verdict.outcome !== 'done' && (await this.#settleOther(executor, settlement))) settled.add(settlement.row.id);
    }
    await this.#keepAttempts(
      executor,
      settlements.filter((settlement) => settled.has(settlement.row.id)),
    );
    return settled;
  }

  /**
   * `exact` decides what is said of a row that is gone: whether this statement removed it, or somebody else did before.
   * Inside a transaction with effects that must be known (Postgres, SQLite: RETURNING; MySQL, MariaDB: locked first).
   * Otherwise the count of changed rows tells as a rule that all were ours, at no cost.
   */
  async #settleDone(x: Executor, batch: DoneBatch, exact: boolean): Promise<readonly string[]> {
    const list = this.#ids(batch.ids);
    const where = `${list.sql} AND version = ${batch.version} AND ${this.#pinned('running')}`;
    const head = batch.keep
      ? `UPDATE ${this.#t} SET status = ${this.state('done')}, lost = 0, lease_until = NULL, updated_at = {timestamp}`
      : `DELETE FROM ${this.#t}`;
    if (exact && this.database.family === 'mysql') {
      const held = (await x.rows<{ id: string }>(`SELECT ${this.#idText()} FROM ${this.#t} WHERE ${where} FOR UPDATE`, list.params)).map(
        (row) => row.id,
      );
      if (held.length > 0) await x.run(`${head} WHERE ${this.#ids(held).sql}`);
      return held;
    }
    if (exact)
      return (await x.rows<{ id: string }>(`${head} WHERE ${where} RETURNING ${this.#idText()}`, list.params)).map((row) => row.id);
    if ((await x.run(`${head} WHERE ${where}`, list.params)) === batch.ids.length) return batch.ids;
    const left = await x.rows<{ id: string }>(
      `SELECT ${this.#idText()} FROM ${this.#t} WHERE ${list.sql}${batch.keep ? ` AND version = ${batch.version} AND status = ${this.state('done')}` : ''}`,
      list.params,
    );
    const ids = new Set(left.map((row) => row.id));
    return batch.ids.filter((id) => ids.has(id) === batch.keep);
  }

  async #settleOther(x: Executor, { row, verdict }: Settlement): Promise<boolean> {
    const { attempts, error } = this.shape.columns;
    const change = otherChange(verdict);
    const running = this.#pinned('running');
    const changed = await x.run(
      `UPDATE ${this.#t} SET status = ${this.state(change.state)}, ${attempts} = ${attempts} + ${change.attempts}, starts = starts - ${change.refund}, lost = ${change.refund === 1 ? 'lost - 1' : '0'},
        run_at = {now} + ?, claim_rank = {now} + ? - COALESCE(priority, 0) * ${this.shape.agingStepMs}, lease_until = NULL, owner = NULL,
        ${error} = COALESCE(?, ${error}), dead_reason = ?, updated_at = {timestamp}
       WHERE id = ${integer(row.id)} AND version = ${row.version} AND ${running}`,
      [change.afterMs, change.afterMs, change.error === undefined ? null : JSON.stringify(change.error), change.deadReason],
    );
    return changed === 1;
  }

  async #keepAttempts(x: Executor, settlements: readonly Settlement[]): Promise<void> {
    for (const { row, verdict } of settlements) {
      if (verdict.outcome !== 'retry' && verdict.outcome !== 'dead') continue;
      await this.#keepAttempt(x, row.id, row.starts, verdict.outcome === 'dead' ? verdict.reason : 'retry', verdict.error);
    }
  }

  async #keepAttempt(x: Executor, id: string, number: number, outcome: string, error: StoredError): Promise<void> {
    await x.run(
      `INSERT INTO ${this.#attempts} (task_id, number, outcome, error, ended_at) VALUES (${integer(id)}, ${number}, ?, ?, {now})`,
      [outcome, JSON.stringify(error)],
    );
  }

  /**
   * Prolongs the leases of `owner`'s rows. Rows locked at the moment are skipped: one row held by an open settle would
   * otherwise stall the renewal of all others. Returns the version of each row renewed, by id.
   */
  async renew(ids: readonly string[], owner: string, leaseMs: number): Promise<Map<string, number>> {
    const list = this.#ids(ids);
    const where = `${list.sql} AND owner = ? AND ${this.#pinned('running')}`;
    const params = [...list.params, owner];
    const result = new Map<string, number>();
    const add = (rows: { id: string; version: number }[]): void => {
      for (const row of rows) result.set(row.id, Number(row.version));
    };
    if (this.database.family === 'postgres') {
      add(
        await this.database.rows(
          `UPDATE ${this.#t} SET lease_until = {now} + ? WHERE id = ANY(ARRAY(SELECT id FROM ${this.#t} WHERE ${where} FOR UPDATE SKIP LOCKED)) RETURNING ${this.#idText()}, version`,
          [leaseMs, ...params],
        ),
      );
    } else if (this.database.family === 'sqlite') {
      add(
        await this.database.rows(`UPDATE ${this.#t} SET lease_until = {now} + ? WHERE ${where} RETURNING ${this.#idText()}, version`, [
          leaseMs,
          ...params,
        ]),
      );
    } else {
      await this.database.transaction(async (x) => {
        result.clear();
        add(await x.rows(`SELECT ${this.#idText()}, version FROM ${this.#t} WHERE ${where} FOR UPDATE SKIP LOCKED`, params));
        if (result.size === 0) return;
        const found = this.#ids([...result.keys()]);
        await x.run(`UPDATE ${this.#t} SET lease_until = {now} + ? WHERE ${found.sql}`, [leaseMs, ...found.params]);
      });
    }
    return result;
  }

  /** Which of the rows are still RUNNING for `owner`, with their versions. Takes no locks. */
  async held(ids: readonly string[], owner: string): Promise<Map<string, number>> {
    const list = this.#ids(ids);
    const rows = await this.database.rows<{ id: string; version: number }>(
      `SELECT ${this.#idText()}, version FROM ${this.#t} WHERE ${list.sql} AND owner = ? AND ${this.#pinned('running')}`,
      [...list.params, owner],
    );
    return new Map(rows.map((row) => [row.id, Number(row.version)]));
  }

  /** Makes SCHEDULED rows READY whose time has come, earliest first. Returns how many. Index `(run_at)` of SCHEDULED rows. */
  async promote(limit: number = 1000): Promise<number> {
    const rank = `claim_rank = run_at - COALESCE(priority, 0) * ${this.shape.agingStepMs}`;
    const set = `status = ${this.state('ready')}, ${rank}, updated_at = {timestamp}`;
    const pick = `SELECT id FROM ${this.#t} WHERE status = ${this.state('scheduled')} AND lost = 0 AND run_at <= {now} ORDER BY run_at LIMIT ${limit}`;
    return this.#pickAndChange(pick, set);
  }

  /** Milliseconds until the next SCHEDULED row is due (0 or less: overdue), or `undefined` if there is none. */
  async nextDueMs(): Promise<number | undefined> {
    const [row] = await this.database.rows<{ ms: string | number | null }>(
      `SELECT min(run_at) - {now} AS ms FROM ${this.#t} WHERE status = ${this.state('scheduled')} AND lost = 0`,
    );
    return row?.ms === null || row?.ms === undefined ? undefined : Number(row.ms);
  }

  /**
   * Takes back rows whose lease has expired, locked ones skipped. A row over `maxLost` starts without a verdict is DEAD
   * (crash-loop); the others are READY again, as suspects. Returns both counts.
   */
  async rescue(options: {
    readonly maxLost: (kind: string) => number;
    readonly adoptAfterMs: number;
    readonly limit?: number;
    readonly hook?: SettleHook;
  }): Promise<{ readonly rescued: number; readonly dead: number }> {
    const expired = `SELECT ${this.#claimColumns(0)} FROM ${this.#t} WHERE status = ${this.state('running')} AND lease_until < {now} ORDER BY lease_until LIMIT ${options.limit ?? 500}`;
    // Set RUNNING by older code that knows no lease: judged by when it was last touched.
    const stale = `SELECT ${this.#claimColumns(0)} FROM ${this.#t} WHERE status = ${this.state('running')} AND lease_until IS NULL AND updated_at < ${this.#ago(options.adoptAfterMs)} LIMIT ${options.limit ?? 500}`;
    let rescued = 0;
    let dead = 0;
    for (const pick of [expired, stale]) {
      await this.database.transaction(async (x) => {
        const rows = (await x.rows<WorkRecord>(`${pick}${this.#skipLocked()}`)).map((row) => this.#claimed(row, 0));
        if (rows.length === 0) return;
        const over = rows.filter((row) => row.lost >= options.maxLost(row.kind));
        const under = rows.filter((row) => !over.includes(row));
        const error: StoredError = {
          name: 'LostStart',
          code: 'lost',
          message: 'The worker that ran this row vanished before it gave a verdict.',
        };
        if (under.length > 0) {
          const list = this.#ids(under.map((row) => row.id));
          await x.run(
            `UPDATE ${this.#t} SET status = ${this.state('ready')}, version = version + 1, lost = CASE WHEN lost < 1 THEN 1 ELSE lost END, claim_rank = {now} - COALESCE(priority, 0) * ${this.shape.agingStepMs}, lease_until = NULL, owner = NULL, updated_at = {timestamp} WHERE ${list.sql}`,
            list.params,
          );
        }
        if (over.length > 0) {
          const list = this.#ids(over.map((row) => row.id));
          await x.run(
            `UPDATE ${this.#t} SET status = ${this.state('dead')}, version = version + 1, dead_reason = 'crash-loop', ${this.shape.columns.error} = ?, lease_until = NULL, owner = NULL, updated_at = {timestamp} WHERE ${list.sql}`,
            [
              JSON.stringify({
                ...error,
                message: `${error.message} That was start ${over[0]?.lost} in a row without one; redrive it once the cause is known.`,
              }),
              ...list.params,
            ],
          );
        }
        for (const row of rows) await this.#keepAttempt(x, row.id, row.starts, 'lost', error);
        await options.hook?.(
          x,
          over.map((row) => ({ row, keep: true, verdict: { outcome: 'dead', reason: 'exhausted', error } })),
        );
        rescued += under.length;
        dead += over.length;
      });
    }
    return { rescued, dead };
  }

  /** Deletes terminal rows last touched more than `olderThanMs` ago, `limit` at a time. Returns how many went. */
  async purge(kind: string, states: readonly WorkState[], olderThanMs: number, limit: number = 1000): Promise<number> {
    const list = states.map((state) => this.state(state)).join(', ');
    const pick = `SELECT id FROM ${this.#t} WHERE status IN (${list}) AND ${this.shape.columns.kind} = ? AND updated_at < ${this.#ago(olderThanMs)} ORDER BY ${this.#t}.id LIMIT ${limit}`;
    return this.database.transaction(async (x) => {
      const rows = await x.rows<{ id: string }>(`${pick.replace('SELECT id', `SELECT ${this.#idText()}`)}${this.#skipLocked()}`, [kind]);
      if (rows.length === 0) return 0;
      const ids = this.#ids(rows.map((row) => row.id));
      await x.run(`DELETE FROM ${this.#attempts} WHERE ${ids.sql.replace(/\bid\b/, 'task_id')}`, ids.params);
      return x.run(`DELETE FROM ${this.#t} WHERE ${ids.sql}`, ids.params);
    });
  }

  /** `now() - ms` in the type of the date-time columns, in the connection's own time zone. */
  #ago(ms: number): string {
    const whole = Math.trunc(ms);
    if (this.database.family === 'postgres') return `now() - interval '${whole} milliseconds'`;
    if (this.database.family === 'sqlite') return `strftime('%Y-%m-%d %H:%M:%f', 'now', '-${(whole / 1000).toFixed(3)} seconds')`;
    return `CURRENT_TIMESTAMP(3) - INTERVAL ${whole * 1000} MICROSECOND`;
  }

  async #pickAndChange(pick: string, set: string): Promise<number> {
    if (this.database.family === 'postgres')
      return this.database.run(`UPDATE ${this.#t} SET ${set} WHERE id = ANY(ARRAY(${pick} FOR UPDATE SKIP LOCKED))`);
    if (this.database.family === 'sqlite') return this.database.run(`UPDATE ${this.#t} SET ${set} WHERE id IN (${pick})`);
    return this.database.transaction(async (x) => {
      const rows = await x.rows<{ id: string }>(`${pick.replace('SELECT id', `SELECT ${this.#idText()}`)} FOR UPDATE SKIP LOCKED`);
      if (rows.length === 0) return 0;
      const list = this.#ids(rows.map((row) => row.id));
      return x.run(`UPDATE ${this.#t} SET ${set} WHERE ${list.sql}`, list.params);
    });
  }

  #claimColumns(ahead: 0 | 1): string {
    const { kind, group, attempts } = this.shape.columns;
    const plus = ahead === 0 ? '' : ' + 1';
    const payload = Object.entries(this.shape.payload).map(([name, sql]) => `${sql} AS p_${name.toLowerCase()}`);
    return [
      this.#idText(),
      `version${plus} AS version`,
      `${kind} AS kind`,
      `${group} AS grp`,
      `starts${plus} AS starts`,
      `lost${plus} AS lost`,
      `${attempts} AS attempts`,
      ...payload,
    ].join(', ');
  }

  #claimed(row: WorkRecord, before: 0 | 1 = 1): ClaimedRow {
    const payload: Record<string, string | null> = {};
    for (const name in this.shape.payload) {
      const value = row[`p_${name.toLowerCase()}`];
      payload[name] = value === null || value === undefined ? null : String(value);
    }
    return {
      id: String(row.id),
      version: Number(row.version),
      kind: String(row.kind),
      group: String(row.grp),
      starts: Number(row.starts),
      lost: Number(row.lost) - before,
      attempts: Number(row.attempts),
      payload,
    };
  }

  #skipLocked(): string {
    return this.database.family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
  }

  #idText(): string {
    return this.database.family === 'postgres'
      ? 'id::text AS id'
      : this.database.family === 'sqlite'
        ? 'CAST(id AS TEXT) AS id'
        : 'CAST(id AS CHAR) AS id';
  }

  /** A comparison of the status that no index can serve. */
  #pinned(state: WorkState): string {
    return this.database.family === 'mysql' ? `status = ${this.state(state)}` : `status || '' = ${this.state(state)}`;
  }

  #ids(ids: readonly string[]): IdList {
    return idList(this.database.family, ids);
  }
}

interface DoneBatch {
  readonly version: number;
  readonly keep: boolean;
  readonly ids: string[];
}

function groupDone(settlements: readonly Settlement[]): DoneBatch[] {
  const batches = new Map<string, DoneBatch>();
  for (const { row, verdict, keep } of settlements) {
    if (verdict.outcome !== 'done') continue;
    const key = `${row.version}${keep ? 'k' : 'd'}`;
    let batch = batches.get(key);
    if (!batch) batches.set(key, (batch = { version: row.version, keep, ids: [] }));
    batch.ids.push(row.id);
  }
  return [...batches.values()];
}

interface OtherChange {
  readonly state: WorkState;
  readonly attempts: 0 | 1;
  readonly refund: 0 | 1;
  readonly afterMs: number;
  readonly error: StoredError | undefined;
  readonly deadReason: string | null;
}

function otherChange(verdict: Verdict): OtherChange {
  const base = { attempts: 0, refund: 0, afterMs: 0, error: undefined, deadReason: null } as const;
  switch (verdict.outcome) {
    case 'retry':
      return { ...base, state: verdict.afterMs > 0 ? 'scheduled' : 'ready', attempts: 1, afterMs: verdict.afterMs, error: verdict.error };
    case 'dead':
      return { ...base, state: 'dead', attempts: 1, error: verdict.error, deadReason: verdict.reason };
    case 'snooze':
      return { ...base, state: verdict.afterMs > 0 ? 'scheduled' : 'ready', afterMs: verdict.afterMs, error: verdict.reason };
    case 'release':
      return { ...base, state: 'ready', refund: 1 };
    case 'cancel':
      return { ...base, state: 'cancelled', error: verdict.error };
    case 'done':
      return { ...base, state: 'done' };
  }
}

/** A decimal id as an SQL literal: never a JavaScript number, which rounds above 2^53. */
function integer(id: string): string {
  if (!/^\d{1,20}$/.test(id)) throw new TypeError(`not an id: ${id}`);
  return id;
}
