import {
  type Actor,
  audit,
  type Database,
  type Inspectable,
  InvalidArgumentError,
  type ListQuery,
  pageLimit,
  requireActor,
  requireFilters,
  type SqlRunner,
  shownValue,
} from '@holdfast/core';
import { isId } from '../row-ids.ts';
import type { EventLog } from '../runs/event-log.ts';
import type { RunEvent } from '../runs/run-event.ts';
import type { RunTable } from '../runs/run-table.ts';
import { type StopHost, stopRun } from '../runs/stop-run.ts';
import { arrears } from './arrears.ts';

/** A run's `state` column, in words. Drafts (0) are not shown: nobody has submitted them. */
const states = { QUEUED: 1, RUNNING: 2, FINISHED: 3, FAILED: 4, TERMINATED: 5 } as const;
type Status = keyof typeof states;

/** Ended runs are counted among this many of the newest rows: the table keeps all of them. */
const endedCounted = 10_000;

const columns =
  'actor, pool, language, state, phase, reason, message, desired, stopped_by, priority, attempt, worker, exit_code, exit_signal, job_uid, traceparent';
const ids = ['id', 'task_id'];
const times = ['created_at', 'submitted_at', 'claimed_at', 'started_at', 'ended_at'];

export interface InspectionOptions extends StopHost {
  readonly database: Database;
  readonly runs: RunTable;
  readonly log: EventLog;
  /** Age in ms at which ended runs are deleted; `undefined`: never. */
  readonly keepRunsMs: number | undefined;
}

/**
 * The runs of all people, for an operator's console and the command line. `authorize` is not asked: hand this to operators only.
 * A `status` is one of QUEUED, RUNNING, FINISHED, FAILED and TERMINATED; a `kind` is a pool.
 */
export class RunInspection implements Inspectable {
  readonly name = 'code-runner';
  readonly statuses: readonly string[] = Object.keys(states);
  readonly redrivable: readonly string[] = [];
  /** `stop` asks a queued or running run to end, as `runs.terminate` does. It returns 0 if the run has ended or was asked before. */
  readonly actions: Readonly<Record<'stop', (target: string, by: Actor) => Promise<number>>>;
  readonly #options: InspectionOptions;
  readonly #table: string;

  constructor(options: InspectionOptions) {
    this.#options = options;
    this.#table = options.database.table('runner_run');
    this.actions = { stop: (id, by) => this.#stop(id, by) };
  }

  /**
   * Runs by pool, language and status. `oldestMs` is the time since the oldest of them was submitted; it is `null` for ended runs.
   * Ended runs are counted among the newest 10,000 rows. The sweep's arrears are counted, up to 10,000, with the status RUNS_TO_DELETE or
   * CONTENTS_TO_CHECK and no pool; `oldestMs` is then the time since the oldest was due.
   */
  async stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]> {
    interface Count {
      readonly pool: string;
      readonly language: string;
      readonly state: number;
      readonly n: string | number;
      readonly age: string | number | null;
    }
    const { database } = this.#options;
    const live = await database.rows<Count>(
      `SELECT pool, language, state, count(*) AS n, {now} - MIN(submitted_at) AS age FROM ${this.#table} WHERE phase IN ('queued', 'claimed', 'starting', 'running', 'collecting') GROUP BY pool, language, state`,
    );
    const ended = await database.rows<Count>(
      `SELECT pool, language, state, count(*) AS n, NULL AS age FROM (SELECT pool, language, state FROM ${this.#table} t WHERE phase = 'terminal' ORDER BY t.id DESC LIMIT ${endedCounted}) r GROUP BY pool, language, state`,
    );
    const order = ({ pool, language, state }: Count): string => `${pool} ${language} ${state}`;
    const rows: Readonly<Record<string, string | number | null>>[] = [...live, ...ended]
      .sort((a, b) => (order(a) < order(b) ? -1 : 1))
      .map(({ pool, language, state, n, age }) => ({
        pool,
        language,
        status: statusOf(state),
        count: Number(n),
        oldestMs: age === null ? null : Math.max(0, Number(age)),
      }));
    return [...rows, ...(await arrears(database, this.#options.keepRunsMs))];
  }

  /** @throws InvalidArgumentError */
  async list(query: ListQuery = {}): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const { status, kind, after } = query;
    const limit = pageLimit(query);
    requireFilters('code-runner', query, ['kind']);
    if (status !== undefined && !Object.hasOwn(states, status))
      throw new InvalidArgumentError(`status is ${shownValue(status)}; give one of ${Object.keys(states).join(', ')}.`);
    const where = [`t.id > ${after === undefined || after === '0' ? '0' : runId('after', after)}`];
    const params: unknown[] = [];
    where.push(status === undefined ? "phase <> 'draft'" : `state = ${states[status as Status]}`);
    if (kind !== undefined) {
      where.push('pool = ?');
      params.push(kind);
    }
    const rows = await this.#options.database.rows<Record<string, unknown>>(
      `SELECT ${this.#columns} FROM ${this.#table} t WHERE ${where.join(' AND ')} ORDER BY t.id LIMIT ${limit}`,
      params,
    );
    return rows.map(view);
  }

  /**
   * A run with its `attempts`: every change of its state, in order, over all attempts. What the program printed is not among them.
   * @throws InvalidArgumentError
   */
  async get(id: string): Promise<(Readonly<Record<string, unknown>> & { readonly attempts: readonly RunEvent[] }) | undefined> {
    const { database, runs, log } = this.#options;
    const [row] = await database.rows<Record<string, unknown>>(
      `SELECT ${this.#columns}, argv, remarks, limits FROM ${this.#table} t WHERE t.id = ${runId('id', id)}`,
    );
    const run = row && (await runs.find(id));
    return run && { ...view(row), argv: run.argv, remarks: run.remarks, limits: run.limits, attempts: await log.states(run) };
  }

  async #stop(id: string, by: Actor): Promise<number> {
    requireActor(by, 'stop');
    const subject = runId('id', id);
    if (!(await this.#options.runs.find(subject))) return 0;
    const { wasFirst } = await stopRun(this.#options, subject, by.actor.slice(0, 191), (sql: SqlRunner) =>
      audit(this.#options.database, sql, by, 'code-runner:stop', subject),
    );
    return wasFirst ? 1 : 0;
  }

  get #columns(): string {
    return [...[...ids, ...times].map((name) => `${this.#options.database.text(name)} AS ${name}`), columns].join(', ');
  }
}

function statusOf(state: unknown): string {
  return Object.entries(states).find(([, number]) => number === Number(state))?.[0] ?? 'DRAFT';
}

/** Adds the status in words; makes times numbers. */
function view(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const shown: Record<string, unknown> = { ...row, job_uid: String(row.job_uid).trim(), status: statusOf(row.state) };
  for (const name of times) shown[name] = row[name] === null ? null : Number(row[name]);
  return shown;
}

function runId(name: string, id: string): string {
  if (!isId(id)) throw new InvalidArgumentError(`${name} is ${shownValue(id)}; give the id of a run.`);
  return id;
}
