import {
  type Actor,
  changeAudited,
  Database,
  type Inspectable,
  InvalidArgumentError,
  keyText,
  LeaseTable,
  type ListQuery,
  pageLimit,
  requireActor,
  requireFilters,
  type SqlRunner,
  type StoredError,
  shownValue,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { memberScope } from '../pass/scope-name.ts';
import type { Position } from '../walk/keyset.ts';
import type { UnitProgress } from '../walk/progress.ts';
import { ScanStore } from '../walk/scan-store.ts';

/**
 * The state of a pass, as the exit code of its runs: `done` 0, `failed` 1 (units or rows failed), `cancelled` 1 (by an operator), `open` 75 (in
 * progress or interrupted).
 */
export type PassStatus = 'open' | 'done' | 'failed' | 'cancelled';

/** The current or latest pass of a scan over one set of units. */
export type PassView = {
  /** The scan and the scope, for example `unsent-invoices/all`. */
  readonly id: string;
  readonly scan: string;
  /** The units that the pass walks: `all`, or those of a run with `only` or `shard`, for example `only 1,2`. */
  readonly scope: string;
  /** Number of the pass, from 1. */
  readonly pass: string;
  readonly status: PassStatus;
  /** By the clock of the state database, in ms since 1970. */
  readonly started_at: number;
  /** `null` while the pass is open. */
  readonly ended_at: number | null;
  readonly units: number;
  /** Units that are done, failed or cancelled. */
  readonly ended_units: number;
  readonly failed_units: number;
  /** Rows passed, matching or not. */
  readonly examined: number;
  readonly matched: number;
  readonly handled: number;
  /** Rows that failed. */
  readonly failed: number;
};

/** A row that failed, in this pass or in one of the nine before it. */
export interface FailureView {
  readonly id: string;
  readonly unit: string;
  readonly pass: string;
  readonly key: Position;
  readonly error: StoredError;
  readonly failed_at: number;
}

/** A pass with its units, its latest failed rows, and the number of instances that walk it now. */
export type PassDetails = Omit<PassView, 'units'> & {
  readonly units: readonly UnitProgress[];
  /** At most 100, the newest first. */
  readonly failures: readonly FailureView[];
  readonly instances: number;
};

const statuses: readonly string[] = ['open', 'done', 'failed', 'cancelled'] satisfies readonly PassStatus[];
const failuresShown = 100;

type Row = Readonly<Record<string, string | number | null>>;

/**
 * The passes of all scans on a state database, for operators' tools. Made by {@link inspectScans}. A `kind` is the name of a scan, a
 * `status` a {@link PassStatus}.
 */
export class ScanInspection implements Inspectable {
  readonly name = 'sharded-scan';
  readonly statuses: readonly string[] = statuses;
  readonly redrivable: readonly string[] = ['failed', 'cancelled'];
  /**
   * What an operator may do to a pass, by its id. Each returns 1, or 0 if it does not apply.
   *
   * - `redrive` reopens a pass that has ended and has failed or cancelled units. The next run walks these units from their last checkpoints,
   *   instead of beginning another pass. Rows that failed are not redriven: `redriveFailed` of the scan does that.
   * - `cancel` ends an open pass. Its instances leave their units after the current batch, which is not counted. The next run begins another
   *   pass.
   * - `reset` begins the latest pass again, under its number: the next run, or those in progress, walk every unit from its first row. The
   *   failures of the pass are deleted.
   */
  readonly actions: Readonly<Record<'redrive' | 'cancel' | 'reset', (target: string, by: Actor) => Promise<number>>>;
  readonly #database: Database;

  constructor(state: Knex) {
    this.#database = new Database({ knex: state, loopConnections: 2 });
    this.actions = {
      redrive: (id, by) => this.#steer('redrive', id, by, (store, sql) => store.reopen(sql)),
      cancel: (id, by) => this.#steer('cancel', id, by, (store, sql) => store.cancel(sql)),
      reset: (id, by) => this.#steer('reset', id, by, (store, sql) => store.reset(sql)),
    };
  }

  /**
   * One row per scan: passes by status, the age of the oldest open pass in ms (0 if none is open), units by state, and rows that failed.
   */
  async stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
    const [passes, units] = await Promise.all([
      this.#database.rows<Row>(
        `SELECT scan, status, count(*) AS n, {now} - MIN(started_at) AS age FROM (SELECT p.scan, p.started_at, ${this.#status} AS status FROM ${this.#database.table('scan_pass')} p) s GROUP BY scan, status ORDER BY scan`,
      ),
      this.#database.rows<Row>(
        `SELECT scan, state, count(*) AS n, SUM(failed) AS failed FROM ${this.#database.table('scan_unit')} GROUP BY scan, state`,
      ),
    ]);
    return [...new Set(passes.map(({ scan }) => String(scan)))].map((scan) => {
      const pass = (status: PassStatus): Row | undefined => passes.find((row) => row.scan === scan && row.status === status);
      const unit = (state: UnitProgress['state']): number => Number(units.find((row) => row.scan === scan && row.state === state)?.n ?? 0);
      return {
        scan,
        open: Number(pass('open')?.n ?? 0),
        done: Number(pass('done')?.n ?? 0),
        failed: Number(pass('failed')?.n ?? 0),
        cancelled: Number(pass('cancelled')?.n ?? 0),
        oldestOpenMs: Math.max(0, Number(pass('open')?.age ?? 0)),
        unitsTodo: unit('todo'),
        unitsRunning: unit('running'),
        unitsDone: unit('done'),
        unitsFailed: unit('failed'),
        unitsCancelled: unit('cancelled'),
        rowsFailed: units.filter((row) => row.scan === scan).reduce((sum, { failed }) => sum + Number(failed), 0),
      };
    });
  }

  /** Passes, ordered by scan and scope. `after` is the id of the last pass of the page before. @throws InvalidArgumentError */
  async list(query: ListQuery = {}): Promise<readonly PassView[]> {
    const limit = pageLimit(query);
    requireFilters('sharded-scan', query, ['kind']);
    const where: string[] = [];
    const params: string[] = [];
    if (query.status !== undefined) {
      const { status } = query;
      if (!statuses.includes(status))
        throw new InvalidArgumentError(`status is ${shownValue(query.status)}; give one of ${statuses.join(', ')}.`);
      where.push(`${this.#status} = ?`);
      params.push(status);
    }
    if (query.kind !== undefined) {
      where.push('p.scan = ?');
      params.push(query.kind);
    }
    if (query.after !== undefined) {
      const after = passOf(query.after);
      if (!after) throw new InvalidArgumentError(`after is ${shownValue(query.after)}; give the id of a pass, as in "things/all".`);
      where.push('p.scan >= ? AND (p.scan > ? OR p.scope > ?)');
      params.push(after.scan, after.scan, after.scope);
    }
    return this.#passes(where, params, limit);
  }

  /** A pass in detail; `undefined` if there is no pass with this id. */
  async get(id: string): Promise<PassDetails | undefined> {
    const at = passOf(id);
    if (!at) return undefined;
    const { scan, scope } = at;
    const [pass] = await this.#passes(['p.scan = ?', 'p.scope = ?'], [scan, scope], 1);
    if (!pass) return undefined;
    const [units, failures, members] = await Promise.all([
      new ScanStore(this.#database, scan, scope).units(),
      this.#failures(scan, scope),
      new LeaseTable(this.#database).members(memberScope(scan, scope)),
    ]);
    return { ...pass, units, failures, instances: members.length };
  }

  /** Closes the connections that the inspection opened. The knex instance stays open. */
  close(): Promise<void> {
    return this.#database.close();
  }

  /** SQL of a pass's status. All units of a scan and scope are of its latest pass. */
  get #status(): string {
    return `CASE WHEN p.ended_at IS NULL THEN 'open' WHEN EXISTS (SELECT 1 FROM ${this.#database.table('scan_unit')} y WHERE y.scan = p.scan AND y.scope = p.scope AND y.state = 'cancelled') THEN 'cancelled' WHEN EXISTS (SELECT 1 FROM ${this.#database.table('scan_unit')} x WHERE x.scan = p.scan AND x.scope = p.scope AND (x.state = 'failed' OR x.failed > 0)) THEN 'failed' ELSE 'done' END`;
  }

  /** The page is cut before the units are joined: a scan may have thousands of them. */
  async #passes(where: readonly string[], params: readonly string[], limit: number): Promise<readonly PassView[]> {
    const page = `SELECT p.scan, p.scope, p.pass, p.started_at, p.ended_at, ${this.#status} AS status FROM ${this.#database.table('scan_pass')} p${where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`} ORDER BY p.scan, p.scope LIMIT ${limit}`;
    const rows = await this.#database.rows<Row>(
      `SELECT p.scan, p.scope, ${this.#database.text('p.pass')} AS pass, p.started_at, p.ended_at, p.status, count(u.unit) AS units, SUM(CASE WHEN u.state IN ('done', 'failed', 'cancelled') THEN 1 ELSE 0 END) AS ended_units, SUM(CASE WHEN u.state = 'failed' THEN 1 ELSE 0 END) AS failed_units, SUM(u.examined) AS examined, SUM(u.matched) AS matched, SUM(u.handled) AS handled, SUM(u.failed) AS failed FROM (${page}) p LEFT JOIN ${this.#database.table('scan_unit')} u ON u.scan = p.scan AND u.scope = p.scope GROUP BY p.scan, p.scope, p.pass, p.started_at, p.ended_at, p.status ORDER BY p.scan, p.scope`,
      params,
    );
    return rows.map((row) => ({
      id: `${row.scan}/${row.scope}`,
      scan: String(row.scan),
      scope: String(row.scope),
      pass: String(row.pass),
      status: row.status as PassStatus,
      started_at: Number(row.started_at),
      ended_at: row.ended_at === null ? null : Number(row.ended_at),
      units: Number(row.units),
      ended_units: Number(row.ended_units),
      failed_units: Number(row.failed_units),
      examined: Number(row.examined),
      matched: Number(row.matched),
      handled: Number(row.handled),
      failed: Number(row.failed),
    }));
  }

  async #failures(scan: string, scope: string): Promise<readonly FailureView[]> {
    const rows = await this.#database.rows<Row>(
      `SELECT ${this.#database.text('f.id')} AS id, unit, ${this.#database.text('f.pass')} AS pass, row_key, error, failed_at FROM ${this.#database.table('scan_failure')} f WHERE scan = ? AND scope = ? ORDER BY f.id DESC LIMIT ${failuresShown}`,
      [scan, scope],
    );
    return rows.map((row) => ({
      id: String(row.id),
      unit: String(row.unit),
      pass: String(row.pass),
      key: JSON.parse(String(row.row_key)) as Position,
      error: JSON.parse(String(row.error)) as StoredError,
      failed_at: Number(row.failed_at),
    }));
  }

  async #steer(verb: string, id: string, by: Actor, change: (store: ScanStore, sql: SqlRunner) => Promise<boolean>): Promise<number> {
    requireActor(by, verb);
    const at = passOf(id);
    if (!at) return 0;
    const store = new ScanStore(this.#database, at.scan, at.scope);
    const made = { action: `sharded-scan:${verb}`, target: id, by };
    return changeAudited(this.#database, made, async (sql) => ((await change(store, sql)) ? 1 : 0));
  }
}

/** The scan and scope of a pass's id. Names of scans hold no slash. @throws InvalidArgumentError for a value that is not a text, or can't be stored */
function passOf(id: string): { readonly scan: string; readonly scope: string } | undefined {
  keyText('The id of a pass', id, 300);
  const slash = id.indexOf('/');
  return slash < 1 ? undefined : { scan: id.slice(0, slash), scope: id.slice(slash + 1) };
}

/**
 * Creates the inspection of all scans whose leases and checkpoints are in a database, for `inspectables` of `holdfast.config.ts`. `state`
 * is the knex that the scans have as their `state`. Close it at the end.
 */
export function inspectScans(options: { readonly state: Knex }): ScanInspection {
  return new ScanInspection(options.state);
}
